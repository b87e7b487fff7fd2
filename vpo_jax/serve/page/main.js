const FIELDS = ["target", "seed", "versions", "keep", "temperature"];
const DEFAULTS = { target: "", seed: "0", versions: "1", keep: "", temperature: String(about.temperature) };
let running = null;  // the AbortController of the running requests

const settings = () => Object.fromEntries(FIELDS.map((name) => [name, $(name).value]));

function fill(values) {
  for (const name of FIELDS) {
    $(name).value = String(values[name] ?? DEFAULTS[name]);
    // A value that the field does not take, such as a target that is gone.
    if (!$(name).checkValidity() || $(name).selectedIndex === -1) $(name).value = DEFAULTS[name];
  }
  remember();
}

function remember() {
  stored.write("settings", { ...settings(), marks: $("marks").checked, open: $("settings").open });
  $("list").parentElement.classList.toggle("marks", $("marks").checked);
  $("list").classList.toggle("marks", $("marks").checked);
}

// The requests for a query, one for each version.
function bodies({ query, target, seed, versions, keep, temperature }) {
  const words = keep.split(",").map((word) => word.trim()).filter(Boolean);
  return Array.from({ length: Number(versions) }, (_, number) => ({
    query,
    seed: Number(seed) + number,
    temperature: Number(temperature),
    ...(words.length && { keep: words }),
    ...(target && { target }),
  }));
}

// Shows empty sheets for a query.
function lay(query, seeds) {
  const versions = seeds.map((seed, number) =>
    new Version(query, seeds.length > 1 ? `Version ${number + 1}, seed ${seed}` : `Seed ${seed}`));
  $("asked").textContent = query;
  $("empty").hidden = true;
  $("answered").hidden = false;
  $("list").replaceChildren(...versions.map((version) => version.sheet));
  // On a phone the prompts are below the form.
  if ($("results").getBoundingClientRect().top > 0.6 * innerHeight) $("results").scrollIntoView();
  return versions;
}

// The button that has the focus may be hidden; then another gets it.
function busy(on) {
  const focused = [$("send"), $("halt"), $("another")].includes(document.activeElement);
  $("send").hidden = on;
  $("halt").hidden = !on;
  $("another").hidden = on;
  if (focused) $(on ? "halt" : "send").focus();
}

async function rewrite() {
  const asked = { query: $("query").value, ...settings() };
  const requests = bodies(asked);
  const versions = lay(asked.query, requests.map(({ seed }) => seed));
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  running = new AbortController();
  const { signal } = running;
  $("status").textContent = "Writing…";
  busy(true);
  await Promise.all(versions.map((version, number) => version.write(requests[number], headers, signal)));
  running = null;
  busy(false);
  const answers = versions.filter((version) => version.answer).map((version) => version.answer);
  const some = `${answers.length} of ${versions.length}`;
  if (signal.aborted) $("status").textContent = "Stopped.";
  else if (answers.length === versions.length) $("status").textContent = "Done.";
  else $("status").textContent = versions.length > 1 ? `${some} prompts were written.` : "No prompt was written.";
  if (answers.length) {
    past.add(asked, answers.map(({ prompt, seed, problem, attempts, spans }) => ({ prompt, seed, problem, attempts, spans })));
  }
}

// Shows an entry of the history as it was.
function reopen({ asked, answers }) {
  if (running) return;
  $("query").value = asked.query;
  fill(asked);
  const versions = lay(asked.query, answers.map(({ seed }) => seed));
  versions.forEach((version, number) => version.finish(answers[number]));
  $("another").hidden = false;
  $("status").textContent = "From the history.";
}

function reuse(prompt) {
  $("query").value = prompt;
  $("query").focus();
}

function askForKey() {
  $("keyed").hidden = false;
  $("key").focus();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running) rewrite();
});
// The browser cannot show what is wrong with a field in closed settings.
$("form").addEventListener("invalid", (event) => {
  if ($("settings").contains(event.target)) $("settings").open = true;
}, true);
$("query").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
});
$("halt").addEventListener("click", () => running.abort());
$("another").addEventListener("click", () => {
  $("seed").value = Number($("seed").value) + Number($("versions").value);
  remember();
  $("form").requestSubmit();
});
$("reseed").addEventListener("click", () => {
  $("seed").value = Math.floor(Math.random() * 1e6);
  remember();
});
$("clear").addEventListener("click", () => {
  if (!confirm("Remove all past queries and their prompts from this browser?")) return;
  past.clear();
  $("query").focus();
});
for (const name of [...FIELDS, "marks"]) $(name).addEventListener("change", remember);
$("settings").addEventListener("toggle", remember);
addEventListener("storage", (event) => { if (event.key === "vpo.history") past.load(); });

$("note").textContent = about.note;
$("note").hidden = !about.note;
$("target").append(...about.targets.map((name) => new Option(name, name)));
$("targeted").hidden = !about.targets.length;
const known = stored.read("settings", {});
$("marks").checked = known.marks ?? true;
$("settings").open = known.open ?? matchMedia("(min-width: 60rem)").matches;
fill(known);
past.load();
