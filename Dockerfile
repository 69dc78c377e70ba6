# Airflow with opstune in it. The same image is every Airflow part and both kinds of worker.
FROM apache/airflow:3.3.2-python3.11

USER root
# llama-cpp-python has no wheel: it is compiled against this image
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake git libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o airflow -g root /var/lib/opstune /var/lib/mlflow /run/opstune
USER airflow

COPY --chown=airflow:root requirements.txt constraints.txt /opt/opstune/
RUN pip install --no-cache-dir -r /opt/opstune/requirements.txt -c /opt/opstune/constraints.txt

COPY --chown=airflow:root dags /opt/opstune/dags
COPY --chown=airflow:root plugins /opt/opstune/plugins
COPY --chown=airflow:root include /opt/opstune/include
COPY --chown=airflow:root airflow_settings.yaml pyproject.toml /opt/opstune/

ENV PYTHONPATH=/opt/opstune/include:/opt/opstune/plugins \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/opstune/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/opstune/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    GOMP_SPINCOUNT=1000 \
    OPSTUNE_HOME=/var/lib/opstune
WORKDIR /opt/opstune
