// Makes the pages more pleasant; each of them works without it.
"use strict";

// --- Lists and logs that refresh by themselves ---------------------------------------------------------------------
// Nobody looks at a hidden tab: its lists are not fetched (a log's chain goes on, or it would end).
document.addEventListener("htmx:beforeRequest", (event) => {
  const moves = ["job-list", "job-state", "boards"].includes(event.target.id);
  if (document.hidden && moves) event.preventDefault();
});

const log = document.getElementById("log");
const followButton = document.querySelector("[data-follow]");
if (log && followButton) {
  let isFollowing = true;
  const follow = (on) => {
    isFollowing = on;
    followButton.setAttribute("aria-pressed", String(on));
    if (on) log.scrollTop = log.scrollHeight;
  };
  // What has ended grows no more: there is nothing to follow. The button leaves its place empty, and nothing moves.
  const mayFollow = () => {
    const grows = document.getElementById("log-tail") !== null;
    if (!grows && document.activeElement === followButton) log.focus({ preventScroll: true });
    followButton.disabled = !grows;
  };
  followButton.addEventListener("click", () => follow(!isFollowing));
  // Scrolling up to read stops following; coming back to the end takes it up again.
  log.addEventListener("scroll", () => {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    if (isAtEnd !== isFollowing) {
      isFollowing = isAtEnd;
      followButton.setAttribute("aria-pressed", String(isAtEnd));
    }
  });
  document.addEventListener("htmx:afterSwap", () => isFollowing && follow(true));
  // The last answer is empty: htmx takes the tail away and tells nobody.
  new MutationObserver(mayFollow).observe(log, { childList: true });
  follow(true);
  mayFollow();
}

// --- Searching the log that is loaded, in place -----------------------------------------------------------------------
// Finds are painted, not written into the page, so that a log that grows meanwhile is not disturbed. Without this the form
// asks the server, which shows the lines alone.
const logSearch = document.querySelector("[data-log-search]");
if (log && logSearch && window.CSS && CSS.highlights) {
  const input = logSearch.querySelector("input");
  const count = logSearch.querySelector("[data-log-count]");
  let finds = [];
  let current = -1;

  const texts = () => {
    const walker = document.createTreeWalker(log, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode()) if (!walker.currentNode.parentElement.closest(".log-note")) nodes.push(walker.currentNode);
    return nodes;
  };
  // A find may run over several nodes: where the colour changes, the log has another one.
  const search = () => {
    const wanted = input.value.trim().toLowerCase();
    finds = [];
    if (wanted) {
      const nodes = texts();
      const starts = [];
      let whole = "";
      for (const node of nodes) {
        starts.push(whole.length);
        const small = node.data.toLowerCase();
        whole += small.length === node.data.length ? small : node.data;
      }
      const place = (offset, from) => {
        let index = from;
        while (index + 1 < nodes.length && starts[index + 1] <= offset) index += 1;
        return index;
      };
      let index = 0;
      for (let at = whole.indexOf(wanted); at >= 0 && finds.length < 10000; at = whole.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        index = place(at, index);
        range.setStart(nodes[index], at - starts[index]);
        const last = place(at + wanted.length - 1, index);
        range.setEnd(nodes[last], at + wanted.length - starts[last]);
        finds.push(range);
      }
    }
    current = Math.min(current, finds.length - 1);
    show();
  };
  const show = () => {
    CSS.highlights.set("log-found", new Highlight(...finds));
    CSS.highlights.set("log-now", new Highlight(...(finds[current] ? [finds[current]] : [])));
    count.textContent = input.value.trim() ? `${current + 1} / ${finds.length}` : "";
  };
  const go = (step) => {
    if (!finds.length) return;
    current = (current + step + finds.length) % finds.length;
    const box = finds[current].getBoundingClientRect();
    const frame = log.getBoundingClientRect();
    log.scrollTop += box.top - frame.top - frame.height / 2;
    show();
  };
  input.addEventListener("input", () => { current = -1; search(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { input.value = ""; search(); }
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(event.shiftKey ? -1 : 1);
  });
  logSearch.addEventListener("submit", (event) => { event.preventDefault(); go(1); });
  new MutationObserver(() => input.value && search()).observe(log, { childList: true });
}

// --- Buttons that wait for the quota ---------------------------------------------------------------------------------
// They work again when one more is allowed; the server decides. The submit page's own button has more to ask for.
const waitForQuota = () => {
  for (const button of document.querySelectorAll("button[data-blocked]:not([data-send])")) {
    const seconds = Number(button.dataset.blocked);
    delete button.dataset.blocked;
    setTimeout(() => { button.disabled = false; }, seconds * 1000);
  }
};
document.addEventListener("htmx:afterSwap", waitForQuota);
waitForQuota();

// --- A token, ready to be copied -----------------------------------------------------------------------------------
for (const input of document.querySelectorAll("[data-select]")) {
  input.addEventListener("focus", () => input.select());
}

// --- Times in the reader's zone --------------------------------------------------------------------------------------
// The server renders them, once it knows the zone: it is told for the next page, and this one is put right.
const zoneShown = document.querySelector("[data-zone]");
const zoneHere = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zoneShown && zoneHere && !("chosen" in zoneShown.dataset) && zoneHere !== zoneShown.dataset.zone) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `time_zone_seen=${zoneHere}; path=/; max-age=31536000; samesite=lax${secure}`;
  zoneShown.querySelector("span").textContent = zoneHere;
  const zoneName = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
  for (const time of document.querySelectorAll("time.exact")) {
    const moment = new Date(time.dateTime);
    const { value } = zoneName.formatToParts(moment).find(({ type }) => type === "timeZoneName");
    time.textContent = `${moment.toLocaleString("sv-SE")} ${value}`;
  }
}
