// Greedy answers of llama.cpp, for test_llama_cpp.py: a JSON line for each line read.
//   node llama_greedy.mjs PACKAGES MODEL.gguf [defaults]   (PACKAGES has node-llama-cpp)
// Input: {"text": "...", "count": 64}. Output: the tokens of the text, the `count` tokens
// that follow, also after one that ends an answer, and their text.
// Without `defaults` keys and values are float32, and attention is not fused, so that
// rounding is least.

import module from "node:module";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const [packages, modelPath, defaults] = process.argv.slice(2);
const found = module.createRequire(`${packages}/`).resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(found));
const llama = await getLlama({
  gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1,
});
const model = await llama.loadModel({modelPath});
const exact = {
  flashAttention: false,
  experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
};
const context = await model.createContext({
  contextSize: 1024, threads: 1, ...(defaults ? {flashAttention: true} : exact),
});
const sequence = context.getSequence();

console.log("ready");
for await (const line of readline.createInterface({input: process.stdin})) {
  const {text, count} = JSON.parse(line);
  const tokens = model.tokenize(text, true);
  const answer = [];
  await sequence.adaptStateToTokens(tokens, false);
  const rest = tokens.slice(sequence.nextTokenIndex);
  const options = {temperature: 0, yieldEogToken: true};
  for await (const token of count ? sequence.evaluate(rest, options) : []) {
    answer.push(token);
    if (answer.length === count) break;
  }
  console.log(JSON.stringify({tokens, answer, text: model.detokenize(answer)}));
}
process.exit(0);
