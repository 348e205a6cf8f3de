// A leaderboard's page; it works without this.
"use strict";

// --- A board's address says what is shown ----------------------------------------------------------------------------
// A filter, an order or a page that is swapped in changes the address, so that it can be kept, sent and gone back to.
document.addEventListener("htmx:beforeSwap", (event) => {
  // What is wrong with a filter is shown in the ranking's place.
  if (event.detail.target.id === "ranking" && event.detail.xhr.status === 400) event.detail.shouldSwap = true;
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "ranking") return;
  const address = new URL(event.detail.pathInfo.finalRequestPath, location.href);
  for (const [name, value] of [...address.searchParams]) if (!value) address.searchParams.delete(name, value);
  const isTyped = event.detail.requestConfig.elt.id === "view";
  if (!history.state?.board) history.replaceState({ board: true }, "");
  history[isTyped ? "replaceState" : "pushState"]({ board: true }, "", address.pathname + address.search);
});
window.addEventListener("popstate", (event) => { if (event.state?.board) location.reload(); });

// The bar with one's own entry steps aside while the row itself is in sight.
const ownRow = new IntersectionObserver(([row]) => {
  document.querySelector(".own-bar")?.classList.toggle("idle", row.isIntersecting);
}, { rootMargin: "0px 0px -64px 0px" });
const watchOwnRow = () => {
  ownRow.disconnect();
  const row = document.getElementById("me");
  if (row) ownRow.observe(row);
};
document.addEventListener("htmx:afterSwap", watchOwnRow);
watchOwnRow();

// Whom one picked for a comparison stays picked over another order, filter or page: who is out of sight goes along hidden.
const compareForm = document.getElementById("compare-form");
if (compareForm) {
  const picked = new Set();
  const boxes = () => document.querySelectorAll("#ranking input[name=job]");
  const carry = () => {
    const inSight = new Set([...boxes()].map((box) => box.value));
    compareForm.replaceChildren(...[...picked].filter((id) => !inSight.has(id)).map((id) => {
      const hidden = document.createElement("input");
      return Object.assign(hidden, { type: "hidden", name: "job", value: id });
    }));
    document.getElementById("ranking").classList.toggle("has-picked", picked.size > 0);
  };
  const remember = () => {
    for (const box of boxes()) picked[box.checked ? "add" : "delete"](box.value);
    carry();
  };
  document.addEventListener("change", (event) => { if (event.target.matches("#ranking input[name=job]")) remember(); });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "ranking") return;
    for (const box of boxes()) box.checked = picked.has(box.value);
    carry();
  });
  remember();  // a browser may keep them over a reload
}
