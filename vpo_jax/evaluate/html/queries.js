const $ = name => document.getElementById(name);
const fields = ["suite", "model", "measure", "from", "to", "outcome", "order", "label", "search"];
const suites = {};
const waiting = {};
let view = null;  // what is shown: a suite, a video model, and the rows that pass
let now = null;  // the current article

// Each suite's data file calls this.
const report = {
  add(data) {
    for (const row of data.rows) {
      const prompts = row.prompts.map(one => one.changes.map(part => (part[0] === "-" ? "" : part.slice(1))).join(""));
      row.text = [row.query, ...prompts].join("\n").toLowerCase();
    }
    suites[data.suite] = data;
  },
};

function load(suite) {
  waiting[suite] ||= new Promise((done, failed) => {
    const script = make("script", { src: `${places.data}/${encodeURIComponent(suite)}.js`, onload: done });
    script.onerror = () => failed(new Error(`${places.data}/${suite}.js cannot be read: keep the folder ${places.data} next to this page.`));
    document.head.append(script);
  });
  return waiting[suite];
}

const passes = {
  all: () => true,
  better: row => view.gain(row) > 0,
  same: row => view.gain(row) === 0,
  worse: row => view.gain(row) !== null && view.gain(row) < 0,
  unsafe: row => view.isUnsafe(row),
  videos: row => Boolean(row.videos[view.model] && row.videos[view.model].included),
};

function choose() {
  const words = [...$("search").value.toLowerCase().matchAll(/"([^"]+)"|[^\s"]+/g)].map(found => found[1] || found[0]);
  const label = $("label").value ? JSON.parse($("label").value) : null;
  const rows = view.data.rows.filter(row =>
    passes[$("outcome").value](row)
    && (!label || (row.labels[label[0]] || []).includes(label[1]))
    && words.every(word => row.text.includes(word)));
  const order = $("order").value;
  if (order === "suite") return rows;
  const sign = order === "gain" ? -1 : 1;
  const gains = new Map(rows.map(row => [row, view.gain(row)]));
  return rows.sort((one, two) => {
    const [a, b] = [gains.get(one), gains.get(two)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a - b);
  });
}

// Options of a select; the wanted one is selected if it exists.
function offer(name, options, wanted, groups = null) {
  const select = $(name);
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
  for (const [title, members] of groups || []) {
    select.append(make("optgroup", { label: title }, ...members.map(([value, text]) => make("option", { value, textContent: text }))));
  }
  const values = [...select.options].map(one => one.value);
  if (values.includes(wanted)) select.value = wanted;
  select.disabled = values.length < 2;
}

function offerLabels(wanted) {
  const counts = {};
  for (const row of view.data.rows) {
    for (const [name, values] of Object.entries(row.labels)) {
      for (const value of values) {
        counts[name] ??= new Map();
        counts[name].set(value, (counts[name].get(value) || 0) + 1);
      }
    }
  }
  const groups = Object.entries(counts).map(([name, values]) => [name, [...values].sort().map(([value, count]) => [JSON.stringify([name, value]), `${value} (${count})`])]);
  offer("label", [["", "any"]], wanted, groups);
}

// Reads the choices, offers what they leave, and lists the queries that pass.
async function update(wanted = {}) {
  const choice = name => wanted[name] ?? $(name).value;
  if (wanted.suite) offer("suite", places.suites.map(one => [one.suite, `${one.title} (${one.rows})`]), wanted.suite);
  const suite = $("suite").value;
  try {
    await load(suite);
  } catch (error) {
    Object.assign($("failure"), { hidden: false, textContent: error.message });
    return;
  }
  if (suite !== $("suite").value) return;  // another one was chosen meanwhile
  const data = suites[suite];
  const models = Object.keys(data.models);
  offer("model", models.length ? models.map(name => [name, name]) : [["", "none"]], choice("model"));
  const model = $("model").value;
  if (!view || view.data !== data || view.model !== model) view = new View(data, model);
  const measure = name => data.measures[name] && data.measures[name].name;
  offer("measure", view.places.map(k => [data.measures[k].name, measure(k)]), view.places.some(k => measure(k) === choice("measure")) ? choice("measure") : measure(view.best));
  const systems = data.systems.map(name => [name, name]);
  const pair = [choice("from"), choice("to")].map((name, k) => (data.systems.includes(name) ? name : data.pair[k]));
  offer("from", systems, pair[0]);
  offer("to", systems, pair[1]);
  offerLabels(choice("label"));
  for (const name of ["outcome", "order", "search"]) if (wanted[name] !== undefined) $(name).value = wanted[name];
  view.measure = view.places.find(k => measure(k) === $("measure").value);
  Object.assign(view, { from: $("from").value, to: $("to").value });
  list(choose(), wanted.id);
  remember();
}

const filled = new Set();
const sourced = new Set();
const near = new IntersectionObserver(entries => {
  steady(() => {
    for (const { target, isIntersecting } of entries) isIntersecting ? fill(target) : empty(target);
  });
}, { rootMargin: "100% 0px" });
const nearer = new IntersectionObserver(entries => {
  steady(() => {  // it may be the first to fill a row
    for (const { target, isIntersecting } of entries) isIntersecting ? attach(target) : detach(target);
  });
}, { rootMargin: "15% 0px" });

// Changes rows without moving the one that is being looked at.
function steady(change) {
  const anchor = current() || document.elementFromPoint(window.innerWidth / 2, 120)?.closest("article");
  const top = anchor?.getBoundingClientRect().top;
  change();
  if (anchor?.isConnected) {
    window.scrollBy({ top: anchor.getBoundingClientRect().top - top, behavior: "instant" });
  }
}

function list(rows, id = "") {
  for (const article of [...filled]) empty(article);
  near.disconnect();
  nearer.disconnect();
  now = null;
  view.rows = rows;
  const articles = rows.map((row, k) => {
    const article = make("article", { tabIndex: -1, data: { id: row.id } });
    article.row = row;
    article.place = k;
    article.ariaLabel = `Query ${k + 1} of ${rows.length}`;
    article.style.minHeight = "32rem";
    return article;
  });
  $("queries").replaceChildren(...articles);
  const total = view.data.rows.length;
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} queries`;
  const dropped = view.data.without_prompts;
  $("hint").textContent = [
    rows.length ? "" : "No query passes these filters.",
    dropped ? `${dropped} more queries have no prompt from every system and are left out.` : "",
  ].join(" ");
  for (const article of articles) { near.observe(article); nearer.observe(article); }
  const wanted = articles.find(article => article.dataset.id === id);
  if (wanted) go(wanted);
}

function fill(article) {
  if (filled.has(article)) return;
  filled.add(article);
  fillRow(article, view, article.row);
  article.style.minHeight = "";
}

function empty(article) {
  if (!filled.delete(article)) return;
  detach(article);
  article.style.minHeight = `${article.offsetHeight}px`;  // so that nothing moves
  article.replaceChildren();
  article.player = null;
}

function attach(article) {
  fill(article);
  sourced.add(article);
  for (const video of article.querySelectorAll("video:not([src])")) {
    video.preload = "auto";
    video.src = `${places.videos}/${encodeURIComponent(video.dataset.id)}.mp4`;
  }
}

// Releases the decoders; browsers allow a page only so many.
function detach(article) {
  if (!sourced.delete(article)) return;
  if (article.player && article.player.playing) article.player.pause();
  for (const video of article.querySelectorAll("video[src]")) {
    video.removeAttribute("src");
    video.load();
  }
}

function refill(article) {
  const loaded = sourced.has(article);
  detach(article);
  fillRow(article, view, article.row);
  if (loaded) attach(article);
}

function toggle(article) {
  const { player } = article;
  if (!player) return;
  if (player.playing) return player.pause();
  stop();
  mark(article);
  attach(article);
  player.play();
}

function stop() {
  for (const article of sourced) if (article.player && article.player.playing) article.player.pause();
}

function mark(article) {
  if (now) now.classList.remove("now");
  now = article;
  now.classList.add("now");
}

// The marked article if it is in view, or else the first that is.
function current() {
  const bottom = window.innerHeight;
  const visible = article => {
    const box = article.getBoundingClientRect();
    return box.bottom > 80 && box.top < bottom - 80;
  };
  if (now && visible(now)) return now;
  return [...filled].sort((one, two) => one.place - two.place).find(visible) || null;
}

// Moves to an article; if videos were playing, its videos play.
function go(article) {
  const playing = [...sourced].some(one => one.player && one.player.playing);
  stop();
  mark(article);
  attach(article);
  article.scrollIntoView({ block: "start", behavior: "instant" });
  article.focus({ preventScroll: true });
  if (playing && article.player) article.player.play();
  remember();
}

function step(by) {
  const at = current();
  // From an article that is in view but not marked, the first step marks it.
  const place = at === null ? 0 : at === now ? at.place + by : at.place;
  const article = $("queries").children[Math.max(0, place)];
  if (article) go(article);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === $("search")) return $("search").blur();
  // Letters reach the page from a select too: after a choice, people go on with j.
  const field = event.target.closest("input, select, textarea");
  if (field && field.type !== "checkbox" && !(field.tagName === "SELECT" && "jk/".includes(event.key))) return;
  const keys = { j: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowLeft: () => step(-1), "/": () => $("search").focus() };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  } else if (event.key === " " && !event.target.closest("button, summary, a, input")) {
    const article = current();
    if (article && article.player) {
      event.preventDefault();
      toggle(article);
    }
  }
});

// The choices are kept in the address, so that it can be sent to others.
let lastHash = "";
function remember() {
  const state = new URLSearchParams();
  for (const name of fields) if ($(name).value) state.set(name, $(name).value);
  if (now) state.set("id", now.dataset.id);
  lastHash = `#${state}`;
  try { history.replaceState(null, "", lastHash); } catch { /* some browsers forbid it on disk */ }
}

function recall() {
  if (!location.hash.includes("=")) return {};
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

$("queries").addEventListener("focusin", event => {
  const article = event.target.closest("article");
  if (article && article !== now) mark(article);
});
$("filters").addEventListener("submit", event => { event.preventDefault(); step(1); });
$("filters").addEventListener("change", event => { if (event.target !== $("search")) update(); });
let pause = 0;
$("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(update, 120); });
$("marks").addEventListener("change", () => $("queries").classList.toggle("marks", $("marks").checked));
$("reset").addEventListener("click", () => update({ ...untouched(), suite: $("suite").value, model: $("model").value }));
window.addEventListener("hashchange", () => { if (location.hash.includes("=") && location.hash !== lastHash) update({ ...untouched(), ...recall() }); });

function untouched() {
  return { measure: "", from: "", to: "", outcome: "all", order: "suite", label: "", search: "" };
}

$("queries").classList.add("marks");
if (places.suites.length) update({ ...untouched(), suite: places.suites[0].suite, ...recall() });
