// The field that narrows a list of packages. Without this script the list is whole.
"use strict";

function offer(box) {
  const input = box.querySelector("[data-package-filter]");
  if (!input || !input.hidden) return;
  input.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const line of box.querySelectorAll("li")) line.hidden = !line.textContent.toLowerCase().includes(wanted);
  });
  // A form around it is not sent by the return key.
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
}

const offerAll = () => document.querySelectorAll("[data-packages]").forEach(offer);
offerAll();
document.addEventListener("htmx:afterSettle", offerAll);
