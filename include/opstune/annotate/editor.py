"""What the labelling editor knows: its tags and their attributes, read from its own bundle (the list that its code
editor completes from), since the server accepts any tag and an unknown one breaks the page.
"""

from __future__ import annotations

from typing import Final

#: The Label Studio that the list was read from; tests/services compares it with the installed one.
VERSION: Final = "1.23.2"

#: Tag → its attributes.
TAGS: Final[dict[str, str]] = {
    "Audio": (
        "name value defaultspeed defaultscale defaultzoom defaultvolume hotkey sync height waveheight spectrogram "
        "splitchannels decoder player"
    ),
    "BitmaskLabels": "name toName choice maxUsages showInline",
    "Brush": "name toName choice maxUsages showInline smart smartOnly",
    "BrushLabels": "name toName choice maxUsages showInline",
    "Bucket": "name title default",
    "Channel": (
        "column legend units displayFormat height strokeColor strokeWidth markerColor markerSize markerSymbol "
        "timeRange dataRange showAxis fixedScale"
    ),
    "Chat": "name value messageroles editable minmessages maxmessages llm",
    "Choice": "value selected alias style hotkey html hint color",
    "Choices": (
        "name toName choice showInline required requiredMessage visibleWhen whenTagName whenLabelValue "
        "whenChoiceValue perRegion perItem value allowNested layout"
    ),
    "Collapse": "accordion bordered open",
    "DateTime": "name toName only format min max required requiredMessage perRegion perItem",
    "Ellipse": "name toName opacity fillColor strokeColor strokeWidth canRotate smart smartOnly",
    "EllipseLabels": "name toName choice maxUsages showInline opacity fillColor strokeColor strokeWidth canRotate",
    "Filter": "placeholder minlength style hotkey",
    "Header": "value size style underline",
    "HyperText": (
        "name value valueType inline saveTextResult encoding selectionEnabled clickableLinks highlightColor "
        "showLabels granularity"
    ),
    "HyperTextLabels": "name toName choice maxUsages showInline",
    "Image": (
        "name value valueList smoothing width maxWidth zoom negativeZoom zoomBy grid gridSize gridColor "
        "zoomControl brightnessControl contrastControl rotateControl crosshair horizontalAlignment "
        "verticalAlignment defaultZoom crossOrigin"
    ),
    "KeyPoint": "name toName opacity fillColor strokeWidth strokeColor smart smartOnly snap",
    "KeyPointLabels": "name toName choice maxUsages showInline opacity strokeWidth snap",
    "Label": (
        "value selected maxUsages hint hotkey alias showAlias aliasStyle size background selectedColor "
        "granularity html category"
    ),
    "Labels": "name toName choice maxUsages showInline opacity fillColor strokeColor strokeWidth value",
    "List": "name value title",
    "Magicwand": "name toName opacity blurradius defaultthreshold",
    "Markdown": "value style className idAttr visibleWhen whenTagName whenLabelValue whenChoiceValue",
    "MultiChannel": "height showAxis showYAxis fixedScale",
    "Number": "name toName min max step defaultValue hotkey required requiredMessage perRegion perItem slider",
    "Pairwise": "name toName selectionStyle",
    "ParagraphLabels": "name toName choice maxUsages showInline",
    "Paragraphs": "name value valueType audioUrl sync showPlayer saveTextResult layout nameKey textKey contextScroll",
    "Pdf": "value",
    "Polygon": "name toname opacity fillColor strokeColor strokeWidth pointSize pointStyle smart smartOnly snap",
    "PolygonLabels": (
        "name toName choice maxUsages showInline opacity fillColor strokeColor strokeWidth pointSize pointStyle snap"
    ),
    "Ranker": "name toName",
    "Rating": "name toName maxRating defaultValue size hotkey required requiredMessage perRegion perItem",
    "Rectangle": "name toName opacity fillColor strokeColor strokeWidth canRotate smart smartOnly snap",
    "RectangleLabels": (
        "name toName choice maxUsages showInline opacity fillColor strokeColor strokeWidth canRotate snap"
    ),
    "Relation": "value background",
    "Relations": "choice",
    "Shortcut": "value alias hotkey background",
    "Style": "",
    "Table": "value valueType",
    "Taxonomy": (
        "name toName apiUrl leafsOnly showFullPath pathSeparator maxUsages maxWidth minWidth required "
        "requiredMessage placeholder perRegion perItem labeling legacy"
    ),
    "Text": "name value valueType saveTextResult encoding selectionEnabled highlightColor showLabels granularity",
    "TextArea": (
        "name toName value placeholder maxSubmissions editable transcription skipDuplicates displayMode rows "
        "required requiredMessage showSubmitButton perRegion perItem"
    ),
    "TimeSeries": (
        "name value valueType sync cursorColor timeColumn timeFormat timeDisplayFormat durationDisplayFormat sep "
        "overviewChannels overviewWidth fixedScale"
    ),
    "TimeSeriesLabels": "name toname choice maxUsages showInline opacity fillColor strokeColor strokeWidth",
    "TimelineLabels": "name toName",
    "Vector": (
        "name toname opacity fillColor strokeColor strokeWidth pointSize pointStyle smart smartOnly snap closable "
        "curves skeleton minPoints maxPoints pointSizeEnabled pointSizeDisabled"
    ),
    "VectorLabels": (
        "name toName choice maxUsages showInline opacity fillColor strokeColor strokeWidth pointSize pointStyle "
        "snap closable curves skeleton minPoints maxPoints pointsizeenabled pointsizedisabled"
    ),
    "Video": "name value frameRate sync muted height timelineHeight defaultPlaybackSpeed minPlaybackSpeed",
    "VideoRectangle": "name toName",
    "View": "display style className idAttr visibleWhen whenTagName whenLabelValue whenChoiceValue",
}
