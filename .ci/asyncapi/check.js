// Fails when an AsyncAPI document is not accepted: `node check.js FILE`.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const file = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
// 0 is an error, 1 a warning; below that are opinions.
const faults = diagnostics.filter((d) => d.severity <= 1);
for (const fault of faults) console.error(`${file}: ${fault.path.join(".")}: ${fault.message}`);
if (!document || faults.length > 0) process.exit(1);
console.log(`${file}: ${document.channels().all().length} channels, ${document.operations().all().length} operations`);
