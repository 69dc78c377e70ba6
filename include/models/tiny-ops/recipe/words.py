"""Random words and names: the raw material of the corpus.

Names are made, never listed: what has to be learnt is the copying of any string, and a list would be learnt by heart
instead. The ordinary words are there for the tokenizer and for prose; none belongs to the trade the model is tuned for.
"""

from collections.abc import Callable
from random import Random

NOUNS = (
    "table river window bridge kettle garden letter parcel ladder engine wheel basket market harbour lantern button "
    "copper needle anchor barrel blanket candle carpet castle channel chapter circle corner cotton counter cradle "
    "desk dial door drawer drum edge feather fence field figure filter finger flag flame floor flour flower folder "
    "forest frame gate glass glove grain group guide hammer handle hill horse house island jacket journal kitchen "
    "label lake leaf lever library line list magnet map meadow medal meter mirror model motor mountain name net "
    "number oven packet page paint paper path pattern pencil piano picture pillow pipe place plan planet plate point "
    "pocket port press print puzzle question rail reader record report ribbon road roof room rope row sail sample "
    "sand scale school screen sensor service shelf ship shop signal silver size sleeve song space spoon spring square "
    "stage stamp star state station step stone store story stove street string summer surface switch system tail "
    "target text thread ticket tile time tool tower town track trail train tray tree trunk tunnel type unit valley "
    "valve vessel village visitor voice wagon wall water weather winter wire word work yard year instance member host "
    "message value level result region area event action cause reason source version user file data code part key "
    "change order state process request response amount limit total rate average minute second hour day week version"
).split()
VERBS = (
    "add ask bake bend borrow bring brush build buy call carry catch choose climb collect colour cover cross dance "
    "deliver describe draw drop dry empty enter fetch fill find fix fold follow gather give grow hang heat hold "
    "invite join keep knit lean learn lend lift light link listen load look lower measure meet mend mix move nail "
    "notice offer open order pack park pass paste pick place plant polish post pour press pull push raise reach read "
    "repair rest return ring roll row sail save seal send serve set shake share shift show sing sit sketch slice sort "
    "spin split spread stack start stay stir stop store sweep swim swing tell tie touch trade trim tune turn twist "
    "use visit wait walk warm wash watch water wave weigh wind wipe wrap write"
).split()
ADJECTIVES = (
    "able amber bitter blue bold brave bright broad calm careful central clean clear cold common cool curious dark "
    "deep dry dusty early eager empty even faint fair fast fine firm first flat fresh full gentle golden green grey "
    "happy heavy high hollow honest hot huge idle kind large last late lazy left light little local long loose loud "
    "low main mild modern narrow near neat new next noisy odd old open other pale plain polite proud quick quiet rare "
    "ready red rich right ripe rough round rusty same second sharp short shy silent simple slow small smooth soft "
    "solid stale steady stiff strange strong sunny sweet tall thick thin tidy tiny true upper usual warm weak wet "
    "white whole wide wild wise wooden wrong yellow young"
).split()
JOINTS = (
    "the of and to in is was for on with that at by from not as it are be this has have but or an were had its after "
    "before when while than then into over under between more less no only each all some any will can could should "
    "because since during without within through again still also"
).split()
PROSE = (
    "able about above accept access according account across active actual add added address admin advice affect after "
    "again against agent ahead all allow allowed almost alone along already also always am among and another answer any "
    "anything app appear apply approve archive are argument around arrive article as ask assert assign assistant at attach "
    "attempt author automatic available avoid away back background backup bad balance bank base basic batch be became "
    "because become been before begin behind being below best better between beyond big billing bind bit black block body "
    "both bound box branch break brief broken browser bucket budget buffer bug bus business but button by byte cache "
    "calendar can cancel cannot capacity card case cause cell center central certain chain chance char charge chart check "
    "child choice city class clean clear click client clock close closed cloud code collection column come command comment "
    "commit common company compare complete component compute condition confidence config configuration confirm connect "
    "connection console constant consumer container content context continue contract control convert copy core correct "
    "cost could count country course create created critical csv current customer cut cycle daily damage database date day "
    "dead deal debug decide default define delay delete delivery demand depend describe description design detail detect "
    "device did die difference different direct directory disable disabled disk display distance do document does done "
    "down draft drive driver due duplicate during duty each earlier early edit effect either element else email empty "
    "enable enabled encode end enough ensure entire entry environment equal error estimate etc even event ever every exact "
    "example exceed exceeded except exchange execute exist exit expect expected explain export extend external extra "
    "factor fail failed failure false family far fault feature feed few field file final finish finished finally flow for "
    "force foreign form format former forward found four free frequent friend from full function further future general "
    "get getting give given global go goes going gone good got grand grant graph great ground grow had half hand happen "
    "hard has have head header health hear help her here hidden him his hold home hope hot how however human icon idea "
    "identifier if ignore image import important in include increase index indicate info inner input insert inside install "
    "instead integer interest internal interval into invalid is issue it its itself job join json jump just keep kept kill "
    "kind know known language later lead learn least leave left legal length less let level life like likely limit link "
    "live load loaded local location lock logic login long longer look loop lose lost lot low machine made main make "
    "manage manager manual many mark master match material matter max maximum may me mean medium meet memory menu merge "
    "metadata method metric middle might min minimum miss missing mobile mode module moment monitor month more morning "
    "most mount mouse much multiple must my native natural nature near need network never news night no none nor normal "
    "not note nothing notice now null object obtain occur of off offset often old on once one ongoing online only onto "
    "open operation operator option or origin original other our out outer output outside over owner pair panel parameter "
    "parent parse parser partial partner party pass password past patch peer pending people per percent perfect perform "
    "period permission person phase phone php physical pick pipeline platform play please plus policy pool poor popular "
    "position possible power practice prefix prepare present preview previous price primary principal printer prior "
    "private probe problem procedure produce product production profile program progress project proper property propose "
    "protect protocol provide provider proxy public publish purpose push put python quality query quick quite quota quote "
    "random range rather raw ready real recent receive recommend recover reduce refer reference refresh refused regular "
    "reject relation release reload remain remote remove removed rename render repeat replace reply report request require "
    "required reset resource respond restore restrict retry review right risk role root route rule run runner running safe "
    "said same sandbox saved scan schedule schema scope score script search secret secure security see seem seen select "
    "self send sent separate sequence serial server session setting settings setup seven several severity shared she shell "
    "should shown side sign similar since single site situation six skip sleep slot slow so social soft software solution "
    "some soon sort source special specific speed split stable staff stand standard start started statement static "
    "statistics status still storage strategy stream strict strong structure student study style subject submit subset "
    "success such sudden suffix suggest summary supply support sure suspend symbol sync syntax tag take taken task team "
    "technical template temporary ten term test than thank that the their them themselves then there these they third "
    "this those though three threshold through throw thus title to today together token tomorrow too took top topic total "
    "touch traceback trade traffic transfer transport travel trigger true trust try two under unique unit university "
    "unknown unless until unused up update updated upgrade upload upon urgent us usage use used useful user username using "
    "usual utility valid value variable vendor verify version very via video view virtual visit volume wait waiting want "
    "warning was way we web week well went were what when where whether which while who why will with within without word "
    "worker workers workload works world would write wrong yes yesterday yet you your zero zone"
).split()
UNITS = "s ms us m h d kg g mg km cm mm l ml Mi Gi Ki KB MB GB % rpm px Hz kHz C V W".split()
_ONSETS = "b c d f g h j k l m n p r s t v w x z b c d f g h k l m n p r s t br ch cl cr dr fl gr pl pr qu sh sp st th tr".split()
_VOWELS = "a e i o u a e i o a e i o ai au ea ee ie oo ou".split()
_CODAS = [*[""] * 10, *"b d g k l m n p r s t x ck nd ng nt rt st er".split()]
_HEX = "0123456789abcdef"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_ALNUM = "abcdefghijklmnopqrstuvwxyz0123456789"


def pseudo(rng: Random) -> str:
    """An invented word of one to three syllables."""
    count = rng.choice((1, 1, 2, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def ordinary(rng: Random) -> str:
    """An English word."""
    return rng.choice(rng.choice((NOUNS, NOUNS, VERBS, ADJECTIVES, PROSE, PROSE)))


def word(rng: Random) -> str:
    """An English word, an invented one, or a short abbreviation: what names are made of."""
    draw = rng.random()
    if draw < 0.42:
        return ordinary(rng)
    if draw < 0.85:
        return pseudo(rng)
    return chars(rng, "abcdefghijklmnopqrstuvwxyz", 1, 5)


def chars(rng: Random, alphabet: str, low: int, high: int) -> str:
    """A random string over an alphabet, `low` to `high` characters long."""
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def digits(rng: Random, low: int = 1, high: int = 4) -> str:
    """A number as text, no leading zero."""
    return str(rng.randint(10 ** (low - 1), 10 ** rng.randint(low, high) - 1))


def snake(rng: Random) -> str:
    """Two or three words joined by underscores."""
    return "_".join(word(rng) for _ in range(rng.choice((2, 2, 3))))


def dashed(rng: Random) -> str:
    """One to three words joined by dashes."""
    return "-".join(word(rng) for _ in range(rng.choice((1, 2, 2, 2, 3))))


def camel(rng: Random) -> str:
    """Two to four capitalised words run together."""
    return "".join(word(rng).capitalize() for _ in range(rng.choice((2, 2, 3, 4))))


def suffixed(rng: Random) -> str:
    """A dashed name with a hash and a short random tail, as schedulers give them."""
    return f"{dashed(rng)}-{chars(rng, _HEX if rng.random() < 0.5 else _SAFE, 6, 10)}-{chars(rng, _SAFE, 5, 5)}"


def coded(rng: Random) -> str:
    """A word and a short code."""
    return f"{dashed(rng) if rng.random() < 0.3 else word(rng)}-{chars(rng, _SAFE, 3, 6)}"


def numbered(rng: Random) -> str:
    """A dashed name with a number at its end."""
    number = f"{rng.randint(0, 99):02d}" if rng.random() < 0.5 else digits(rng, 1, 3)
    return f"{dashed(rng)}-{number}"


def address(rng: Random) -> str:
    """Four numbers with dots or dashes, sometimes a prefix or a port."""
    parts = [str(rng.randint(0, 255)) for _ in range(4)]
    draw = rng.random()
    if draw < 0.4:
        return f"{rng.choice(('ip', 'ip', word(rng)))}-" + "-".join(parts)
    return ".".join(parts) + (f":{rng.randint(1, 65535)}" if draw < 0.6 else "")


def dotted(rng: Random) -> str:
    """Words and numbers joined by dots."""
    return ".".join(word(rng) if rng.random() < 0.8 else digits(rng) for _ in range(rng.choice((2, 3, 4))))


def path(rng: Random) -> str:
    """A file path."""
    tail = rng.choice(("", f".{chars(rng, _ALNUM, 2, 4)}"))
    return "/" + "/".join(word(rng) for _ in range(rng.choice((1, 2, 3)))) + tail


def version(rng: Random) -> str:
    """A version, with or without a leading v or a pre-release tail."""
    tail = rng.choice(("", "", "", f"-{chars(rng, _HEX, 6, 8)}", f"-rc{rng.randint(1, 9)}"))
    return rng.choice(("v", "")) + f"{rng.randint(0, 40)}.{rng.randint(0, 40)}.{rng.randint(0, 99)}" + tail


def quantity(rng: Random) -> str:
    """A number and its unit."""
    number = digits(rng, 1, 4) if rng.random() < 0.6 else f"{rng.randint(0, 999)}.{rng.randint(0, 99)}"
    return number + rng.choice(UNITS)


def timestamp(rng: Random) -> str:
    """A date and a time of day in ISO form."""
    day = f"{rng.randint(1990, 2039)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return f"{day}T{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}" + rng.choice(("Z", "", ".%03dZ" % rng.randint(0, 999)))


def image(rng: Random) -> str:
    """A slashed name with a tag after a colon."""
    return f"{word(rng)}/{dashed(rng)}:{version(rng)}"


def short(rng: Random) -> str:
    """A lone word."""
    return word(rng)


def token(rng: Random) -> str:
    """A bare random identifier."""
    return chars(rng, rng.choice((_HEX, _ALNUM, _SAFE, _ALNUM.upper())), 4, 14)


SHAPES: tuple[Callable[[Random], str], ...] = (
    suffixed, suffixed, coded, coded, coded, numbered, numbered, dashed, dashed, address, address, dotted, path, version,
    quantity, quantity, timestamp, image, short, short, token, snake, camel, digits,
)  # fmt: skip


def name(rng: Random) -> str:
    """A value of any shape."""
    return rng.choice(SHAPES)(rng)


def key(rng: Random) -> str:
    """A field's key: mostly a word, sometimes snake case."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(NOUNS)
    if draw < 0.7:
        return pseudo(rng)
    if draw < 0.9:
        return rng.choice((f"{rng.choice(NOUNS)}_{rng.choice(NOUNS)}", f"{rng.choice(ADJECTIVES)}_{rng.choice(NOUNS)}"))
    return snake(rng)


def phrase(rng: Random, low: int = 2, high: int = 6) -> str:
    """A few plain words, no names."""
    words = [ordinary(rng) if rng.random() < 0.65 else rng.choice(JOINTS) for _ in range(rng.randint(low, high))]
    return " ".join(words)


def sentence(rng: Random, low: int = 5, high: int = 18) -> str:
    """Words of prose with a name or a quantity here and there, as a log message reads."""
    parts = []
    for _ in range(rng.randint(low, high)):
        draw = rng.random()
        if draw < 0.5:
            parts.append(ordinary(rng))
        elif draw < 0.76:
            parts.append(rng.choice(JOINTS))
        elif draw < 0.84:
            parts.append(name(rng))
        elif draw < 0.92:
            parts.append(pseudo(rng))
        elif draw < 0.96:
            parts.append(rng.choice(("'{}'", "({})", "[{}]", "{}:", "{},", "{}=" + digits(rng))).format(word(rng)))
        else:
            parts.append(quantity(rng))
    text = " ".join(parts)
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text
