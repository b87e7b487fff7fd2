// The browser's storage. It may be forbidden or full: the page works without it.
const stored = {
  read(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`vpo.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`vpo.${name}`, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

// Past queries with their settings and prompts, the last one first.
const past = {
  most: 50,
  entries: [],

  load() {
    const found = stored.read("history", []);
    this.entries = Array.isArray(found) ? found.filter((one) => one?.asked && one.answers) : [];
    this.draw();
  },

  add(asked, answers) {
    const same = JSON.stringify(asked);
    const others = this.entries.filter((one) => JSON.stringify(one.asked) !== same);
    const entry = { asked, answers, time: Date.now() };
    this.entries = [entry, ...others].slice(0, this.most);
    // The oldest are not stored if there is too little room.
    let count = this.entries.length;
    while (count && !stored.write("history", this.entries.slice(0, count))) count -= 1;
    this.draw();
  },

  clear() {
    this.entries = [];
    stored.write("history", []);
    this.draw();
  },

  draw() {
    $("past").hidden = !this.entries.length;
    $("history").replaceChildren(...this.entries.map((entry) => {
      const { asked, answers, time } = entry;
      const [item, button, words, facts] = ["li", "button", "span", "span"].map((tag) => document.createElement(tag));
      words.className = "words";
      words.dir = "auto";
      words.textContent = asked.query;
      facts.className = "quiet";
      const count = answers.length === 1 ? "1 version" : `${answers.length} versions`;
      const date = new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      facts.textContent = `${count}, seed ${asked.seed}; ${date}`;
      button.type = "button";
      button.append(words, facts);
      button.addEventListener("click", () => reopen(entry));
      item.append(button);
      return item;
    }));
  },
};
