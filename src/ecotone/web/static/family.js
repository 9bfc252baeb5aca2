// Makes the picture of a family movable: zoom, pan, folding of branches, and the evidence of an edge beside it.
// Without it the picture is a still one whose links lead to the list below.
for (const frame of document.querySelectorAll("[data-graph]")) {
  const svg = frame.querySelector("svg"), scroll = frame.querySelector(".scroll"), said = frame.querySelector("[data-said]");
  if (!svg) continue;
  const wide = svg.viewBox.baseVal.width, high = svg.viewBox.baseVal.height;
  let scale = 1;
  frame.classList.add("moves");

  const zoom = (wanted) => {
    const middle = [scroll.scrollLeft + scroll.clientWidth / 2, scroll.scrollTop + scroll.clientHeight / 2];
    const was = scale;
    scale = Math.min(3, Math.max(0.25, wanted));
    svg.setAttribute("width", wide * scale);
    svg.setAttribute("height", high * scale);
    scroll.scrollLeft = middle[0] * scale / was - scroll.clientWidth / 2;
    scroll.scrollTop = middle[1] * scale / was - scroll.clientHeight / 2;
  };
  const fit = () => { zoom(Math.min(1, (scroll.clientWidth - 4) / wide)); };

  // -- tools
  const tools = document.createElement("div");
  tools.className = "graph-tools";
  tools.setAttribute("role", "group");
  tools.setAttribute("aria-label", "Picture");
  const acts = [["Larger", () => zoom(scale * 1.25)], ["Smaller", () => zoom(scale / 1.25)], ["Whole width", fit], ["Full size", () => zoom(1)], ["Unfold all", () => { folded.clear(); draw(); }]];
  for (const [word, act] of acts) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = word;
    button.addEventListener("click", act);
    tools.append(button);
  }
  frame.prepend(tools);
  scroll.addEventListener("keydown", (event) => {
    const act = { "+": acts[0][1], "=": acts[0][1], "-": acts[1][1], "0": fit }[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { act(); event.preventDefault(); }
  });
  scroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(scale * (event.deltaY < 0 ? 1.1 : 0.9));
  }, { passive: false });

  // -- pan
  let held = null, moved = false;
  scroll.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    held = [event.clientX, event.clientY, scroll.scrollLeft, scroll.scrollTop];
    moved = false;
  });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    const by = [event.clientX - held[0], event.clientY - held[1]];
    moved ||= Math.hypot(...by) > 4;
    if (moved) { scroll.scrollLeft = held[2] - by[0]; scroll.scrollTop = held[3] - by[1]; }
  });
  addEventListener("pointerup", () => { held = null; });
  svg.addEventListener("dragstart", (event) => event.preventDefault());
  svg.addEventListener("click", (event) => { if (moved) { event.preventDefault(); moved = false; } }, true);

  // -- folding: what is below a box (above it, for an ancestor) and reached through nothing else that is shown
  const boxes = new Map([...svg.querySelectorAll(".box")].map((box) => [box.dataset.id, box]));
  const edges = [...svg.querySelectorAll(".edge")];
  const folded = new Set();
  const self = [...boxes.values()].find((box) => box.dataset.depth === "0");
  const steps = (id) => edges.flatMap((edge) => {
    const outward = Number(boxes.get(id).dataset.depth) >= 0
      ? [edge.dataset.parent, edge.dataset.child] : [edge.dataset.child, edge.dataset.parent];
    const both = id === self?.dataset.id && edge.dataset.child === id ? [edge.dataset.child, edge.dataset.parent] : outward;
    return both[0] === id && boxes.has(both[1]) ? [both[1]] : [];
  });
  const draw = () => {
    const shown = new Set(), waiting = self ? [self.dataset.id] : [...boxes.keys()];
    while (waiting.length) {
      const id = waiting.pop();
      if (shown.has(id)) continue;
      shown.add(id);
      if (!folded.has(id)) waiting.push(...steps(id));
    }
    for (const [id, box] of boxes) box.classList.toggle("folded", !shown.has(id));
    for (const edge of edges) {
      edge.classList.toggle("folded", !(shown.has(edge.dataset.parent) && shown.has(edge.dataset.child)));
    }
    for (const handle of svg.querySelectorAll(".fold")) {
      const closed = folded.has(handle.dataset.of);
      handle.classList.toggle("folded", !shown.has(handle.dataset.of));
      handle.setAttribute("aria-expanded", String(!closed));
      handle.querySelector("text").textContent = closed ? "+" : "−";
    }
  };
  const space = "http://www.w3.org/2000/svg";
  for (const [id, box] of boxes) {
    if (box === self || !steps(id).length) continue;
    const handle = document.createElementNS(space, "g"), ring = document.createElementNS(space, "circle"), sign = document.createElementNS(space, "text");
    const x = Number(box.dataset.x) + 206 - 4, y = Number(box.dataset.y) + 4;
    handle.setAttribute("class", "fold");
    handle.setAttribute("role", "button");
    handle.setAttribute("tabindex", "0");
    handle.setAttribute("aria-label", `Branch of ${box.querySelector(".name")?.textContent ?? "it"}`);
    handle.dataset.of = id;
    ring.setAttribute("cx", x); ring.setAttribute("cy", y); ring.setAttribute("r", 12);
    sign.setAttribute("x", x); sign.setAttribute("y", y + 4.5); sign.setAttribute("text-anchor", "middle");
    handle.append(ring, sign);
    const turn = (event) => { event.preventDefault(); folded.has(id) ? folded.delete(id) : folded.add(id); draw(); };
    handle.addEventListener("click", turn);
    handle.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") turn(event); });
    svg.append(handle);
  }
  draw();

  // -- evidence
  let pinned = null;
  const tell = (edge) => {
    const found = document.querySelector(edge.getAttribute("href"))?.querySelector(".why");
    if (!found) return;
    said.replaceChildren(found.cloneNode(true));
    said.hidden = false;
    for (const other of edges) other.classList.toggle("chosen", other === edge);
  };
  said.setAttribute("role", "status");
  for (const edge of svg.querySelectorAll("a.edge")) {
    edge.addEventListener("mouseenter", () => { if (!pinned) tell(edge); });
    edge.addEventListener("focus", () => { if (!pinned) tell(edge); });
    edge.addEventListener("click", (event) => {
      event.preventDefault();
      pinned = pinned === edge ? null : edge;
      tell(edge);
    });
  }
  frame.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned = null;
    said.hidden = true;
    for (const edge of edges) edge.classList.remove("chosen");
  });
}
