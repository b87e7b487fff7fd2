// Calls `onEvent` with the JSON of each event of a stream.
async function listen(response, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      onEvent(JSON.parse(text.slice("data: ".length, end)));
      text = text.slice(end + 2);
    }
  }
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `the server answered with status ${response.status}`;
  const after = response.headers.get("Retry-After");
  return new Error(after ? `${message} (try again in ${after} s)` : message);
}

// One prompt for a query: its request, and its sheet on the page.
class Version {
  constructor(query, name) {
    Object.assign(this, { query, prompt: "", answer: null });
    const made = $("version").content.cloneNode(true);
    const one = (selector) => made.querySelector(selector);
    this.sheet = one(".sheet");
    this.parts = Object.fromEntries(["prompt", "state", "problem", "spans", "actions", "copy"].map((part) => [part, one(`.${part}`)]));
    one("h3").textContent = name;
    this.parts.copy.addEventListener("click", () => this.copy());
    one(".reuse").addEventListener("click", () => reuse(this.prompt));
  }

  say(state, problem = "") {
    this.parts.state.textContent = state;
    this.parts.problem.textContent = problem;
  }

  draw() {
    show(this.parts.prompt, this.query, this.prompt, Boolean(this.answer));
  }

  // Draws the complete answer.
  finish(answer) {
    this.answer = answer;
    this.prompt = answer.prompt;
    this.draw();
    const count = cut(this.prompt).length;
    const tries = answer.attempts > 1 ? `, ${answer.attempts} attempts` : "";
    this.say(`${count} ${count === 1 ? "word" : "words"}${tries}`);
    if (answer.problem) this.parts.problem.textContent = `Check it: the prompt ${answer.problem}.`;
    const facts = Object.entries(answer.spans);
    if (answer.budget) facts.push([`${answer.tokens} tokens`, answer.budget]);
    if (answer.negative_prompt) facts.push(["negative prompt", answer.negative_prompt]);
    this.parts.spans.replaceChildren(...facts.map(([text, outcome]) => {
      const [item, words] = ["li", "b"].map((tag) => document.createElement(tag));
      words.textContent = text;
      item.className = outcome;
      item.append(words, `: ${outcome}`);
      return item;
    }));
    this.parts.actions.hidden = false;
  }

  onEvent(event) {
    if (event.error) throw new Error(event.error.message);
    if (event.optimized) return this.finish(event.optimized);
    if (event.again) {
      this.prompt = "";
      this.say(`Trying again: the prompt ${event.again}.`);
    } else {
      if (!this.prompt) this.say("Writing…");
      this.prompt += event.text;
    }
    return this.draw();
  }

  // Sends the request; an error is shown on the sheet.
  async write(body, headers, signal) {
    this.say("Waiting…");
    this.parts.prompt.setAttribute("aria-busy", "true");
    try {
      const response = await fetch("optimize", {
        method: "POST", headers, signal, body: JSON.stringify({ ...body, stream: true }),
      });
      if (response.status === 401) askForKey();
      if (!response.ok) throw await failure(response);
      await listen(response, (event) => this.onEvent(event));
      if (!this.answer) throw new Error("the answer ended early");
    } catch (error) {
      if (error.name === "AbortError") this.say("Stopped.");
      // What `fetch` throws if there is no connection.
      else this.say("", error instanceof TypeError ? "the server cannot be reached" : error.message);
    } finally {
      this.parts.prompt.setAttribute("aria-busy", "false");
    }
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.prompt);
      $("status").textContent = this.parts.copy.textContent = "Copied";
      setTimeout(() => { this.parts.copy.textContent = "Copy"; }, 2000);
    } catch {  // without TLS there is no clipboard
      getSelection().selectAllChildren(this.parts.prompt);
      $("status").textContent = "Selected; press Ctrl + C to copy.";
    }
  }
}
