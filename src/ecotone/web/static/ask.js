// Refreshes the answer in place while the use changes. Without it the form is a plain GET form with a button.
for (const form of document.querySelectorAll("form[data-ask]")) {
  let timer = 0, running = null;
  const refresh = async () => {
    running?.abort();
    running = new AbortController();
    const told = [...new FormData(form)].filter(([, value]) => value !== "");
    const address = new URL(form.getAttribute("action"), location.href);
    address.search = new URLSearchParams(told);
    try {
      const answer = await fetch(address, { signal: running.signal, headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-refresh]")) {
        const found = fresh.getElementById(part.id);
        // a part with the focus in it stays, so that nobody is torn out of a field
        if (found && !part.contains(document.activeElement)) part.replaceChildren(...found.childNodes);
      }
      history.replaceState(null, "", address.pathname + address.search);
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(refresh, 250); });
  form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) refresh(); });
}
