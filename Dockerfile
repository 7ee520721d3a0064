# Polylens with the locked versions. A GPU: docker build --build-arg TORCH=default -t polylens . && docker run --gpus all ...
FROM python:3.12-slim

ARG TORCH=cpu
WORKDIR /opt/polylens
COPY . .
RUN TORCH="$TORCH" tools/bootstrap && rm -rf "$HOME/.cache" \
    && useradd --create-home --uid 1000 user

ENV PATH=/opt/polylens/.venv/bin:$PATH
USER 1000
WORKDIR /data
ENTRYPOINT ["polylens"]
CMD ["--help"]
