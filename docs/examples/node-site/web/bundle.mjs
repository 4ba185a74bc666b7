// bundle.mjs SRC DIST: one script of main.js and what it imports, names that tell the content.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [src, dist] = process.argv.slice(2);
const seen = new Set();

function bundled(path) {
  if (seen.has(path)) return "";
  seen.add(path);
  return readFileSync(path, "utf8")
    .replace(/^import .* from "(.*)";\n/gm, (_, name) => bundled(join(dirname(path), name)))
    .replace(/^export /gm, "")
    .replace(/^\s*\/\/.*\n/gm, "");
}

mkdirSync(join(dist, "assets"), { recursive: true });
function written(name, text) {
  const sum = createHash("sha256").update(text).digest("hex").slice(0, 8);
  const asset = `assets/${name.replace(".", `-${sum}.`)}`;
  writeFileSync(join(dist, asset), text);
  return asset;
}

const script = written("main.js", bundled(join(src, "main.js")));
const style = written("style.css", readFileSync(join(src, "style.css"), "utf8"));
const page = readFileSync(join(src, "index.html"), "utf8");
writeFileSync(join(dist, "index.html"), page.replace("main.js", script).replace("style.css", style));
