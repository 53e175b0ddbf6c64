# An image that trains, for docs/kubernetes.yaml: docker build -f docs/train.Dockerfile -t NAME .
FROM python:3.11-slim
COPY . /src
RUN pip install --no-cache-dir "/src[train]" && rm -r /src
