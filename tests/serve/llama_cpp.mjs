// llama.cpp for bench_single.py: reads a JSON line, writes a line for each new token.
//   node llama_cpp.mjs PACKAGES MODEL.gguf THREADS   (PACKAGES has node-llama-cpp)
// Input: {"tokens": [...], "count": 64, "cold": false}. The prefix shared with the
// previous prompt is reused, as in llama.cpp's server, unless `cold`.

import module from "node:module";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const [packages, modelPath, threads] = process.argv.slice(2);
const found = module.createRequire(`${packages}/`).resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(found));
const llama = await getLlama({
  gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: +threads,
});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 1024, threads: +threads});
const sequence = context.getSequence();
const options = {temperature: 0.7, topK: 0, topP: 1, minP: 0, yieldEogToken: true};

console.log("ready");
for await (const line of readline.createInterface({input: process.stdin})) {
  const {tokens, count, cold} = JSON.parse(line);
  if (cold) await sequence.clearHistory();
  await sequence.adaptStateToTokens(tokens, false);
  let remaining = count;
  for await (const token of sequence.evaluate(tokens.slice(sequence.nextTokenIndex), options)) {
    console.log(token);
    if (--remaining === 0) break;
  }
}
process.exit(0);
