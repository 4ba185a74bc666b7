FROM {B}
MAINTAINER Somebody <somebody@example.org>

ARG DEBIAN_FRONTEND=noninteractive
ARG TINI_VERSION=v0.19.0
ENV LANG C.UTF-8
ENV TZ=Europe/Berlin LC_ALL=C.UTF-8

# tools
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends \
        ca-certificates curl \
        gnupg \
    && rm -rf /var/lib/apt/lists/* /tmp/* /var/tmp/*
RUN set -ex; \
    for each in one two three; do \
        echo "$each $TINI_VERSION ${TINI_VERSION#v} ${#TINI_VERSION}" >> /etc/list; \
    done; \
    echo "{{ not a template }} {% nor this %}" > /etc/braces
COPY docker-entrypoint.sh /usr/local/bin/
RUN chmod +x /usr/local/bin/docker-entrypoint.sh \
 && ln -s usr/local/bin/docker-entrypoint.sh / # backwards compat
ADD rootfs.tar.gz /
ADD conf /etc/app/
VOLUME ["/var/lib/app", "/var/log/app"]
EXPOSE 80 443 9000-9002/udp
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["app", "-f", "/etc/app/a.ini"]
ONBUILD COPY . /usr/src/app
