// An element with properties, `dataset` and children; text is never read as HTML.
function make(tag, properties = {}, ...children) {
  const { data, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

function shown(value, unit, signed = false) {
  const text = unit ? (100 * value).toFixed(1) : value.toFixed(2);
  return (signed && value > 0 ? "+" : "") + text.replace("-", "\u2212") + (unit ? "\u00a0%" : "");
}

// What a row keeps when it is emptied and filled again.
const kept = new Map();
let aspect = 1.5;  // width by height, of the last video, so that later rows keep their height

function keptOf(row) {
  if (!kept.has(row)) kept.set(row, { whole: false, take: 0 });
  return kept.get(row);
}

// Fills an article with a query, its systems' videos, values and prompts.
function fillRow(article, view, row) {
  const { data, model } = view;
  const own = keptOf(row);
  const videos = row.videos[model];
  const included = Boolean(videos && videos.included);
  const take = included ? videos.takes[Math.min(own.take, videos.takes.length - 1)] : null;
  article.replaceChildren(
    make("p", { className: "query", dir: "auto", textContent: row.query }),
    facts(view, row),
    ...(take ? [controls(article, view, row, videos, own)] : []),
    make("div", { className: "systems" }, ...data.systems.map((_, k) => system(view, row, k, take))),
  );
  if (videos && !included) {
    article.querySelector(".facts").append(make("span", { textContent: "videos not included" }));
  }
  const long = row.prompts.some(one => one.changes.reduce((sum, part) => sum + part.length, 0) > 330);
  article.classList.toggle("short", long && !own.whole);
  if (long) article.append(wholeButton(article, own));
  article.append(provenance(view, row));
  article.player = take ? new Player([...article.querySelectorAll("video")], () => showPlayer(article)) : null;
}

function facts(view, row) {
  const found = make("div", { className: "facts" });
  if (row.category === "safety") found.append(chip("safety-related", "bad"));
  for (const [name, values] of Object.entries(row.labels)) {
    for (const value of values) {
      if (name !== "category" || value !== row.category) found.append(chip(`${name}: ${value}`));
    }
  }
  if (row.flags) found.append(chip(`flags: ${row.flags}`));
  const place = new URLSearchParams({ suite: view.data.suite, model: view.model, id: row.id });
  found.append(make("a", { href: `#${place}`, textContent: `query ${row.id}`, title: "Link to this query" }));
  return found;
}

function chip(text, kind = "") {
  return make("span", { className: `chip ${kind}`, dir: "auto", textContent: text });
}

function controls(article, view, row, videos, own) {
  const play = make("button", { type: "button", className: "play", textContent: "Play" });
  play.onclick = () => toggle(article);
  const place = make("input", { type: "range", min: 0, max: 1000, value: 0, className: "place" });
  place.ariaLabel = "Position in the videos";
  place.oninput = () => article.player.seek(place.value / 1000);
  const found = make("div", { className: "controls" }, play, place);
  if (videos.takes.length > 1) {
    const takes = make("span", { className: "takes quiet" }, "noise");
    videos.takes.forEach((take, k) => {
      const button = make("button", { type: "button", textContent: take.number + 1 });
      button.ariaPressed = String(k === own.take);
      button.onclick = () => { own.take = k; refill(article); };
      takes.append(button);
    });
    found.append(takes);
  }
  return found;
}

function showPlayer(article) {
  const { player } = article;
  const leader = player.leader;
  article.querySelector(".play").textContent = player.playing ? "Pause" : "Play";
  if (leader) article.querySelector(".place").value = 1000 * leader.currentTime / leader.duration;
}

function wholeButton(article, own) {
  const text = () => (own.whole ? "Shorten the prompts" : "Show the whole prompts");
  const button = make("button", { type: "button", className: "more", textContent: text() });
  button.onclick = () => {
    own.whole = !own.whole;
    article.classList.toggle("short", !own.whole);
    button.textContent = text();
  };
  return button;
}

function system(view, row, k, take) {
  const { data } = view;
  const prompt = row.prompts[k];
  const head = make("h4", {}, make("span", { dir: "auto", textContent: data.systems[k] }));
  const change = view.change(row, data.systems.indexOf(view.from), k);
  if (change !== null && data.systems[k] !== view.from) {
    const { unit, better } = data.measures[view.measure];
    const gain = better ? view.isGain(change) : 0;  // neither more nor fewer words are good
    head.append(chip(shown(change, unit, true), `change ${gain > 0 ? "good" : gain < 0 ? "bad" : ""}`));
  }
  if (prompt.verdict) {
    const kind = { aligned: "good", unsafe: "bad" }[prompt.verdict] || "";
    head.append(chip(`prompt: ${prompt.verdict}`, kind));
  }
  const level = view.level(row, k);
  if (level) head.append(chip(`video: level ${level}, ${places.levels[level - 1]}`, level > 2 ? "bad" : level > 1 ? "" : "good"));
  if (prompt.finish_reason === "length") head.append(chip("cut at the token limit", "bad"));
  const text = make("p", { className: "prompt", dir: "auto" });
  for (const part of prompt.changes) {
    const words = part.slice(1);
    text.append(part[0] === "=" ? words : make(part[0] === "+" ? "ins" : "del", { textContent: words }));
  }
  const parts = [head, ...(take ? [screen(view, take.videos[k])] : []), values(view, row, k), text];
  const found = make("div", { className: "system" }, ...parts);
  found.style.setProperty("--parts", parts.length);  // aligned across the systems
  return found;
}

function screen(view, id) {
  const found = make("div", { className: "screen" });
  found.style.setProperty("--aspect", aspect);
  const say = text => found.append(make("p", { textContent: text }));
  if (!id || view.missing.has(id)) {
    say(id ? "The store no longer has this video." : "No video was made.");
    return found;
  }
  const video = make("video", { muted: true, playsInline: true, preload: "none", data: { id } });
  video.ariaLabel = "Video";
  video.onloadedmetadata = () => {
    aspect = video.videoWidth / video.videoHeight;
    steady(() => found.style.setProperty("--aspect", aspect));
    video.classList.toggle("tiny", video.videoWidth <= 128);
  };
  video.onerror = () => { if (video.hasAttribute("src")) say("This video cannot be played."); };
  video.onclick = () => toggle(video.closest("article"));
  found.append(video);
  return found;
}

function values(view, row, k) {
  const found = make("dl", { className: "values" });
  const places = [view.measure, ...view.valued.filter(place => place !== view.measure)];
  for (const place of places) {
    const value = row.values[place][k];
    if (value === null) continue;
    const { name, unit } = view.data.measures[place];
    const [low, high] = view.ranges[place];
    const at = number => 100 * (number - low) / (high - low || 1);
    const bar = make("i");
    bar.style.left = `${at(Math.min(value, 0))}%`;
    bar.style.width = `${Math.abs(at(value) - at(0))}%`;
    const first = place === view.measure ? "first" : "";
    found.append(
      make("dt", { className: first, textContent: name, title: name }),
      make("div", { className: "track", ariaHidden: "true" }, bar),
      make("dd", { className: first, textContent: shown(value, unit) }),
    );
  }
  return found;
}

// Where the prompts and videos come from; made when it is opened.
function provenance(view, row) {
  const found = make("details", {}, make("summary", { textContent: "Where this comes from" }));
  found.ontoggle = () => {
    if (!found.open || found.childElementCount > 1) return;
    const { data, model } = view;
    const takes = row.videos[model] ? row.videos[model].takes : [];
    const lines = data.systems.map((name, k) => {
      const { source, of, model: writer, settings } = data.sources[k];
      const { tokens, finish_reason: reason } = row.prompts[k];
      const ids = takes.map(take => take.videos[k] || "none");
      return [name, of ? `${source} of ${of}` : source, writer, written(settings), tokens ? `${tokens}, ${reason}` : "", ...(takes.length ? [ids.join(", ")] : [])];
    });
    const heads = ["system", "source", "model", "settings", "tokens, end", ...(takes.length ? ["video ids"] : [])];
    found.append(make("div", { className: "scroll" }, make("table", {}, line("th", heads), ...lines.map(cells => line("td", cells)))));
    const say = text => found.append(make("p", { className: "quiet", textContent: text }));
    if (takes.length) {
      say(`Noise seeds of the videos, the same for all systems: ${takes.map(take => take.noise).join(", ")}`);
      say(`Video model ${model}: ${data.models[model].model}; ${written(data.models[model].settings)}`);
    }
  };
  return found;
}

function line(tag, cells) {
  return make("tr", {}, ...cells.map(textContent => make(tag, { textContent })));
}

function written(settings) {
  const text = value => (typeof value === "object" ? JSON.stringify(value) : value);
  return Object.entries(settings).map(([name, value]) => `${name} ${text(value)}`).join(", ");
}
