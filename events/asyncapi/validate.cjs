// Accepts or refuses an AsyncAPI document as the AsyncAPI project's parser reads it: node validate.cjs FILE
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

new Parser().parse(readFileSync(process.argv[2], "utf8")).then(({ document, diagnostics }) => {
  const errors = diagnostics.filter((d) => d.severity === 0);
  for (const d of errors) console.error(`${d.path.join("/")}: ${d.message}`);
  if (!document || errors.length) process.exit(1);
  const others = diagnostics.filter((d) => d.severity === 1).length;
  console.log(`AsyncAPI ${document.version()}: ${document.channels().all().length} channels, ` +
    `${document.messages().all().length} messages, ${others} warnings`);
});
