// Lets both answers grow side by side. Without it the form is a plain form, and the page comes when both are whole.
for (const form of document.querySelectorAll("form[data-play]")) {
  const sides = document.getElementById("sides"), state = form.querySelector("[data-state]");
  let running = null;
  const tell = (side, told) => {
    for (const [name, value] of Object.entries(told)) {
      for (const place of side.querySelectorAll(`[data-told="${name}"]`)) place.textContent = value;
      for (const row of side.querySelectorAll(`[data-row="${name}"]`)) row.hidden = !value;
    }
    side.querySelector('[data-told="problem"]').hidden = !told.problem;
    const text = side.querySelector("[data-text]");
    text.hidden = told.problem && !text.textContent;
    side.querySelector("[data-verdict]").className = `verdict-${told.verdict ?? ""}`;
    const why = side.querySelector("[data-why]");
    why.href = why.dataset.why + (told.request_id ?? "");
  };
  const clear = (side, model) => {
    for (const row of side.querySelectorAll("[data-row]")) row.hidden = true;
    const text = side.querySelector("[data-text]");
    text.textContent = "";
    text.hidden = false;
    side.querySelector('[data-told="problem"]').hidden = true;
    side.querySelector('[data-told="model"]').textContent = model;
    side.hidden = false;
  };
  const ask = async (side, fields, signal) => {
    const text = side.querySelector("[data-text]");
    const answer = await fetch(form.dataset.play, { method: "POST", body: fields, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const found = JSON.parse(line);
        if (found.text) text.append(found.text);
        if (found.told) tell(side, found.told);
      }
    }
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    sides.hidden = false;
    state.textContent = "Asking …";
    const asked = [...sides.querySelectorAll("[data-side]")].map(async (side) => {
      const fields = new URLSearchParams(new FormData(form));
      const model = (fields.get(side.dataset.side) ?? "").trim();
      side.hidden = !model;
      if (!model) return;
      clear(side, model);
      fields.set("side", side.dataset.side);
      try {
        await ask(side, fields, signal);
      } catch (error) {
        if (error.name !== "AbortError") tell(side, { problem: "The answer broke off; the server cannot be reached." });
      }
    });
    await Promise.all(asked);
    if (!signal.aborted) state.textContent = "Both have ended.";
  });
}
