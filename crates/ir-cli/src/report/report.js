// What the page offers beyond print: values under the pointer, one split at a time, one block at a
// time. Without this script the page has all figures and tables.
"use strict";

// Values: the note of the mark nearest to the pointer, up to REACH pixels away.
const REACH = 22;
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [];
  for (const title of svg.querySelectorAll("circle > title")) {
    const mark = title.parentElement;
    marks.push({ mark, note: title.textContent, x: mark.cx.baseVal.value, y: mark.cy.baseVal.value });
    // The browser's own tooltip would come on top, later.
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  let chosen = null;
  const choose = (found) => {
    chosen?.mark.classList.remove("chosen");
    chosen = found;
    chosen?.mark.classList.add("chosen");
    tip.hidden = chosen === null;
  };
  svg.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY);
    const at = place.matrixTransform(svg.getScreenCTM().inverse());
    let nearest = null;
    let least = REACH;
    for (const mark of marks) {
      const distance = Math.hypot(mark.x - at.x, mark.y - at.y);
      if (distance < least && mark.mark.getClientRects().length > 0) {
        [nearest, least] = [mark, distance];
      }
    }
    choose(nearest);
    if (nearest !== null) {
      tip.textContent = nearest.note;
      const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room)) + scrollX}px`;
      tip.style.top = `${event.clientY + 16 + scrollY}px`;
    }
  });
  svg.addEventListener("pointerleave", () => choose(null));
}

// Splits: the style sheet hides the lines of the other.
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => {
    document.documentElement.dataset.split = button.dataset.show;
    for (const other of document.querySelectorAll("[data-show]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}

// Blocks: every measure of one block of one network.
const networks = JSON.parse(document.getElementById("measures").textContent);
const choice = document.getElementById("network");
const slider = document.getElementById("block");
const rows = document.getElementById("block-rows");
const show = () => {
  const network = networks[choice.value];
  slider.max = network.blocks.length - 1;
  const block = network.blocks[slider.value];
  document.getElementById("block-name").textContent = block.name;
  rows.replaceChildren(
    ...block.rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, index) => {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.className = index === 0 ? "" : "number";
      });
      return row;
    }),
  );
};
if (networks.length > 0) {
  networks.forEach((network, index) => choice.add(new Option(network.title, index)));
  choice.addEventListener("input", show);
  slider.addEventListener("input", show);
  show();
}

for (const element of document.querySelectorAll("[data-needs-script]")) {
  element.hidden = networks.length === 0 && element.id === "blocks";
}
