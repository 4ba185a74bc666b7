FROM {B} AS jdk
SHELL ["/bin/sh", "-eo", "pipefail", "-c"]
WORKDIR /build
COPY pom.xml .
RUN mvn -B dependency:go-offline
COPY src src
RUN mvn -B package -DskipTests; jlink --add-modules java.base,java.logging --strip-debug --output /opt/jre

FROM {B}
ENV JAVA_HOME=/opt/jre
ENV PATH="${JAVA_HOME}/bin:${PATH}" JAVA_OPTS="-Xmx256m -Dkey=\"a b\""
COPY --from=jdk $JAVA_HOME $JAVA_HOME
VOLUME /data
STOPSIGNAL SIGTERM
WORKDIR /srv/app
ENTRYPOINT exec java $JAVA_OPTS -jar app.jar
