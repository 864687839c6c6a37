// Builds the console: types from the bus's schema, a check of all types, one bundle in pieces, each
// also compressed. `python -m deploy.bundling` runs it; `node build.mjs test` builds and runs the
// tests of what has logic. What is built lies in `built`, and appears there whole or not at all.

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import esbuild from "esbuild";
import { compile } from "json-schema-to-typescript";

const HERE = dirname(fileURLToPath(import.meta.url));
const SCHEMA = join(HERE, "../../../proto/bus.schema.json");
const MOST_COMPRESSED = 400_000; // Bytes of JavaScript, all pieces together.
const shared = {
  bundle: true, format: "esm", target: "es2022", jsx: "automatic", jsxImportSource: "preact",
  absWorkingDir: HERE, logLevel: "warning",
};

await contract();
if (process.argv[2] === "test") await test();
else await build();

// The messages of the bus as TypeScript has them.
async function contract() {
  const schemas = JSON.parse(readFileSync(SCHEMA, "utf8"));
  const all = {
    title: "Messages", type: "object", additionalProperties: false,
    properties: Object.fromEntries(Object.keys(schemas).map((name) => [name, { $ref: `#/$defs/${name}` }])),
    $defs: {},
  };
  for (const [name, { $defs = {}, ...schema }] of Object.entries(schemas)) {
    Object.assign(all.$defs, $defs, { [name]: schema });
  }
  const text = await compile(plain(all), "Messages", {
    additionalProperties: false, bannerComment: "// Generated from proto/bus.schema.json.", format: false,
    unreachableDefinitions: true,
  });
  writeFileSync(join(HERE, "src/contract/bus.ts"), text);
}

// Without the titles of fields, each of which would become a type of its own, and with fields that
// have a default as given: what a service sends has all of them.
function plain(schema, isField = false) {
  if (Array.isArray(schema)) return schema.map((one) => plain(one));
  if (schema === null || typeof schema !== "object") return schema;
  const { title, properties, ...rest } = schema;
  const found = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key,
    key === "$defs" ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
      : plain(value, true)]));
  if (title !== undefined && !isField) found.title = title;
  if (properties !== undefined) {
    found.properties = Object.fromEntries(Object.entries(properties).map(([name, one]) =>
      [name, plain(one, true)]));
    found.required = Object.keys(properties);
  }
  return found;
}

async function build() {
  run(join(HERE, "node_modules/.bin/tsc"), ["--project", HERE]);
  const folder = join(HERE, "built.part");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  const built = await esbuild.build({
    ...shared, outdir: folder, splitting: true, minify: true, metafile: true, legalComments: "none",
    entryPoints: { main: "src/main.tsx", console: "styles/console.css" },
    chunkNames: "[name]-[hash]", entryNames: "[name]",
  });
  for (const name of ["index.html", "icon.svg", "report.css"]) cpSync(join(HERE, name), join(folder, name));
  writeFileSync(join(folder, "licenses.txt"), licenses(Object.keys(built.metafile.inputs)));
  compressAll(folder);
  const whole = join(HERE, "built"), old = join(HERE, "built.old");
  rmSync(old, { recursive: true, force: true });
  if (existsSync(whole)) renameSync(whole, old);
  renameSync(folder, whole);
  rmSync(old, { recursive: true, force: true });
}

// Of each library in the bundle: its name, version and licence.
function licenses(inputs) {
  const names = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean));
  return [...names].sort().map((name) => {
    const folder = join(HERE, "node_modules", name);
    const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  }).join(`\n${"-".repeat(80)}\n\n`);
}

function compressAll(folder) {
  let scripts = 0;
  for (const name of readdirSync(folder)) {
    const content = readFileSync(join(folder, name));
    const small = brotliCompressSync(content, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length },
    });
    const gzipped = gzipSync(content, { level: 9 });
    writeFileSync(join(folder, `${name}.br`), small);
    writeFileSync(join(folder, `${name}.gz`), gzipped);
    if (name.endsWith(".js")) scripts += gzipped.length;
  }
  console.log(`page: ${(scripts / 1000).toFixed(0)} kB of JavaScript, compressed by gzip`);
  if (scripts > MOST_COMPRESSED) throw new Error(`more than ${MOST_COMPRESSED} bytes of JavaScript`);
}

async function test() {
  const folder = join(HERE, "built.tests");
  rmSync(folder, { recursive: true, force: true });
  const entries = readdirSync(join(HERE, "tests")).map((name) => `tests/${name}`);
  await esbuild.build({
    ...shared, platform: "node", outdir: folder, entryPoints: entries, outExtension: { ".js": ".mjs" },
  });
  const files = readdirSync(folder).map((name) => join(folder, name));
  try {
    run(process.execPath, ["--test", ...files]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(program, words) {
  const { status } = spawnSync(program, words, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
