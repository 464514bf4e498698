# The explorer of one published register, for a Docker Space or any other host: port 7860, user 1000,
# nothing written, no secret. How to build it: docs/online.md.
FROM python:3.11-slim

# hf://datasets/OWNER/NAME@COMMIT and the digest of its database; a build without them fails.
ARG REGISTER
ARG REGISTER_SHA256

RUN useradd --create-home --uid 1000 herd
WORKDIR /home/herd/app

# What the explorer imports, and not what reads weights: torch alone would be gigabytes.
COPY constraints.txt docs/space/requirements.txt ./
RUN pip install --no-cache-dir -c constraints.txt -r requirements.txt

COPY pyproject.toml README.md LICENSE app.py ./
COPY .streamlit .streamlit
COPY crawler crawler
COPY lineage lineage
COPY docs docs
RUN pip install --no-cache-dir --no-deps -e .

USER 1000
ENV HERDBOOK_HOME=/home/herd/register \
    HERDBOOK_FRAME=https://huggingface.co \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    HF_HUB_DISABLE_TELEMETRY=1

RUN test -n "$REGISTER" && test -n "$REGISTER_SHA256" \
    && herdbook fetch "$REGISTER" --sha256 "$REGISTER_SHA256" \
    && chmod -R a-w "$HERDBOOK_HOME"

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["herdbook", "health", "--explorer", "7860"]
CMD ["herdbook", "explore", "--port", "7860"]
