FROM scratch
COPY page.html /web/
