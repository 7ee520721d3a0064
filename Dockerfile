# Polylens with the locked versions. A GPU: docker build --build-arg TORCH=default -t polylens . && docker run --gpus all ...
FROM python:3.12-slim

ARG TORCH=cpu
WORKDIR /opt/polylens
COPY . .
RUN TORCH="$TORCH" tools/bootstrap && rm -rf /root/.cache \
    && useradd --create-home user

ENV PATH=/opt/polylens/.venv/bin:$PATH
USER user
WORKDIR /data
ENTRYPOINT ["polylens"]
CMD ["--help"]
