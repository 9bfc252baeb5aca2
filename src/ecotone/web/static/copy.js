// Adds a copy button to each snippet. Pages work without it.
for (const box of document.querySelectorAll("pre.snippet")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(box.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  const frame = document.createElement("div");
  frame.className = "snippet-frame";
  box.replaceWith(frame);
  frame.append(box, button);
}
