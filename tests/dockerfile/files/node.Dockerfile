FROM {B} as deps
WORKDIR /app
COPY package.json yarn.lock* package-lock.json* ./
RUN if [ -f yarn.lock ]; then echo yarn > used; \
    elif [ -f package-lock.json ]; then npm ci; \
    else echo "no lockfile" && exit 1; fi

FROM {B} as builder
ARG NODE_ENV=production
ENV NODE_ENV $NODE_ENV
WORKDIR /app
COPY --from=deps /app/ ./
COPY . .
RUN npm run build --output /app/dist

FROM {B} as runner
WORKDIR /app
ENV NODE_ENV=production
ENV PORT=3000
RUN addgroup -g 1001 nodejs && adduser -D -u 1001 -G nodejs nextjs
COPY --from=builder --chown=nextjs:nodejs /app/dist ./dist
COPY --from=builder /app/package.json ./
USER nextjs
EXPOSE ${PORT}
ENTRYPOINT ["node"]
CMD ["dist/server.js"]
