// Words of a query that a prompt keeps, adds and drops: as in the evaluation's report
// (evaluate/html/changes.py). Of Chinese and Japanese each character is a word.
const WORD = /[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\p{L}\p{N}_])+/gu;

// The text cut before each word, except the first.
function cut(text) {
  const starts = [...text.matchAll(WORD)].slice(1).map((found) => found.index);
  const cuts = [0, ...starts, text.length];
  return starts.length || text ? cuts.slice(1).map((end, k) => text.slice(cuts[k], end)) : [];
}

// Ignores case.
function keyOf(word) {
  const found = word.match(WORD);
  return found ? found[0].toUpperCase().toLowerCase() : word.trim();
}

// The longest common blocks [start in a, start in b, length], in order: the longest of
// all, the first of several, then those before and after it.
function* blocks(a, places, [a0, a1], [b0, b1]) {
  let best = [a0, b0, 0];
  let lengths = new Map();  // of the block that ends at the word of `a` and this of `b`
  for (let i = a0; i < a1; i += 1) {
    const next = new Map();
    for (const j of places.get(a[i]) || []) {
      if (j < b0 || j >= b1) continue;
      const length = (lengths.get(j - 1) || 0) + 1;
      next.set(j, length);
      if (length > best[2]) best = [i - length + 1, j - length + 1, length];
    }
    lengths = next;
  }
  const [i, j, length] = best;
  if (!length) return;
  yield* blocks(a, places, [a0, i], [b0, j]);
  yield best;
  yield* blocks(a, places, [i + length, a1], [j + length, b1]);
}

// The prompt in parts [tag, text]; what it drops of the query is at its place.
function changes(query, prompt) {
  const [ours, theirs] = [cut(query), cut(prompt)];
  const places = new Map();
  theirs.map(keyOf).forEach((key, j) => places.set(key, [...(places.get(key) || []), j]));
  const parts = [];
  const add = (tag, text) => {
    if (!text) return;
    if (parts.at(-1)?.[0] === tag) parts.at(-1)[1] += text;
    else parts.push([tag, text]);
  };
  let [a, b] = [0, 0];
  const all = [...blocks(ours.map(keyOf), places, [0, ours.length], [0, theirs.length])];
  for (const [i, j, length] of [...all, [ours.length, theirs.length, 0]]) {
    add("del", ours.slice(a, i).join("").trim());
    add("ins", theirs.slice(b, j).join(""));
    add("mark", theirs.slice(j, j + length).join(""));
    [a, b] = [i + length, j + length];
  }
  return parts;
}

// Writes the prompt into `target`. What is dropped is known when the prompt is complete.
function show(target, query, prompt, complete) {
  const nodes = [];
  for (const [tag, text] of changes(query, prompt)) {
    if (tag === "del" && !complete) continue;
    const node = document.createElement(tag);
    node.textContent = text.trimEnd();
    // A line may end at a dropped word, around which the prompt has no space.
    const around = () => (tag === "del" ? document.createElement("wbr") : "");
    nodes.push(around(), node, around(), text.slice(text.trimEnd().length));
  }
  target.replaceChildren(...nodes);
}
