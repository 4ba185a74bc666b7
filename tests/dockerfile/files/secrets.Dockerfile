# syntax=docker/dockerfile:1.7
FROM {B} AS build
WORKDIR /src
RUN --mount=type=secret,id=token \
    --mount=type=cache,id=npm,target=/root/.npm,sharing=locked \
    --mount=type=bind,source=package.json,target=package.json \
    --mount=type=tmpfs,target=/scratch \
    npm ci --token "$(cat /run/secrets/token)" > /dev/null; \
    ls -a /run/secrets /scratch > listed 2>&1; cat package.json > seen
FROM {B}
RUN --mount=type=bind,from=build,source=/src,target=/mnt \
    cp /mnt/seen /seen && ls /mnt > /names
COPY --from=build /src/listed /listed
