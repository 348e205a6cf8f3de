// Makes the status page more pleasant; it works without this.
"use strict";

// Nobody looks at a hidden tab: it is not fetched for it.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.id === "status") event.preventDefault();
});

// A swap must not close what somebody has opened to read, nor take the focus from the link or button under their fingers.
let opened = [];
let focused = null;
const places = () => [...document.querySelectorAll("#status a, #status button, #status summary")];
const named = (one) => [one.tagName, one.getAttribute("href"), ...["job", "kind"].map((name) => one.form?.elements[name]?.value)].join(" ");
document.addEventListener("htmx:beforeSwap", () => {
  opened = [...document.querySelectorAll("#status details[open]")].map((one) => one.id);
  focused = document.activeElement.closest("#status") ? named(document.activeElement) : null;
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused) places().find((one) => named(one) === focused)?.focus({ preventScroll: true });
});
