// Refreshes a part of the page in place, every so many seconds while somebody looks. Without it the page stays as it is.
for (const part of document.querySelectorAll("[data-live]")) {
  let waiting = false;
  setInterval(async () => {
    // a part with the focus in it, or with selected words, stays, so that nobody is torn out of it
    const chosen = getSelection();
    const busy = part.contains(document.activeElement) || (!chosen.isCollapsed && part.contains(chosen.anchorNode));
    if (waiting || document.hidden || busy) return;
    waiting = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
        if (fresh) part.replaceChildren(...fresh.childNodes);
      }
    } catch {
      // the next round tries again
    } finally {
      waiting = false;
    }
  }, 1000 * part.dataset.live);
}
