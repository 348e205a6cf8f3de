// Makes the pages more pleasant; each of them works without it.
"use strict";

// --- Lists and logs that refresh by themselves ---------------------------------------------------------------------
// Nobody looks at a hidden tab: its lists are not fetched (a log's chain goes on, or it would end).
document.addEventListener("htmx:beforeRequest", (event) => {
  const moves = event.target.id === "job-list" || event.target.id === "job-state";
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
  followButton.hidden = false;
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
  follow(true);
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

// --- A token, ready to be copied -----------------------------------------------------------------------------------
for (const input of document.querySelectorAll("[data-select]")) {
  input.addEventListener("focus", () => input.select());
}

// --- Uploads -------------------------------------------------------------------------------------------------------
const form = document.querySelector("form[data-upload]");
if (form) prepareUpload(form);

function prepareUpload(form) {
  const words = document.getElementById("upload-words").dataset;
  const input = form.querySelector("input[type=file]");
  const list = form.querySelector("[data-files]");
  const drop = form.querySelector("[data-drop]");
  const send = form.querySelector("[data-send]");
  const entrypoint = form.querySelector("[name=entrypoint]");
  const extensions = input.dataset.extensions.split(" ");
  const isArchive = (name) => /\.(zip|tar\.gz)$/i.test(name);

  const item = (text, detail, isBad) => {
    const line = document.createElement("li");
    line.className = isBad ? "bad" : "";
    const name = document.createElement("span");
    name.className = "cut";
    name.textContent = text;
    const more = document.createElement("span");
    more.textContent = detail;
    line.append(name, more);
    list.append(line);
  };

  const check = () => {
    list.replaceChildren();
    const files = [...input.files];
    const total = files.reduce((sum, file) => sum + file.size, 0);
    let isBad = false;
    for (const file of files) {
      const isTaken = extensions.some((extension) => file.name.toLowerCase().endsWith(extension));
      const isAlone = files.length === 1 || !isArchive(file.name);
      const why = !isTaken ? words.extension : !isAlone ? words.archive : "";
      isBad ||= Boolean(why);
      item(file.name, why || bytes(file.size), why);
    }
    const refuse = (text, detail) => { isBad = true; item(text, detail, true); };
    if (files.length > Number(input.dataset.maxFiles)) refuse(words.count, `${files.length} > ${input.dataset.maxFiles}`);
    if (total > Number(input.dataset.maxBytes)) refuse(words.size, `${bytes(total)} > ${bytes(Number(input.dataset.maxBytes))}`);
    const isLoose = files.length && !files.some((file) => isArchive(file.name));
    if (isLoose && !files.some((file) => file.name === entrypoint.value)) refuse(words.entrypoint, entrypoint.value);
    send.disabled = isBad;
  };
  input.addEventListener("change", check);
  entrypoint.addEventListener("input", check);

  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    drop.addEventListener(name, () => drop.classList.remove("over"));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    input.files = event.dataTransfer.files;
    check();
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    upload(form, words, send);
  });
}

function upload(form, words, send) {
  const box = form.querySelector("[data-progress]");
  const bar = box.querySelector("progress");
  const text = box.querySelector("[data-progress-text]");
  const started = performance.now();
  const request = new XMLHttpRequest();
  send.disabled = true;
  box.hidden = false;
  request.upload.addEventListener("progress", (event) => {
    const seconds = Math.max((performance.now() - started) / 1000, 0.001);
    const speed = event.loaded / seconds;
    bar.value = event.loaded / event.total;
    const left = Math.ceil((event.total - event.loaded) / speed);
    text.textContent = `${bytes(event.loaded)} / ${bytes(event.total)} · ${bytes(speed)}/s · ${left} s ${words.left}`;
  });
  request.upload.addEventListener("load", () => { bar.removeAttribute("value"); text.textContent = words.checking; });
  const failed = () => { send.disabled = false; bar.value = 0; text.textContent = words.failed; };
  request.addEventListener("error", failed);
  request.addEventListener("abort", failed);
  request.addEventListener("load", () => {
    const path = new URL(request.responseURL).pathname;
    if (request.status < 400 && path !== location.pathname) {
      location.assign(request.responseURL);
      return;
    }
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    const fresh = page.querySelector("form[data-upload]");
    if (!fresh) { failed(); return; }
    // The same form with what is wrong, and the files that were chosen: they cannot be set by a page.
    const files = form.querySelector("input[type=file]").files;
    form.replaceWith(fresh);
    fresh.querySelector("input[type=file]").files = files;
    prepareUpload(fresh);
    const wrong = fresh.querySelector("[role=alert]");
    if (wrong) wrong.scrollIntoView({ block: "center" });
  });
  request.open("POST", form.action || location.href);
  request.send(new FormData(form));
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let index = 0;
  for (; count >= 1024 && index < units.length - 1; index++) count /= 1024;
  return `${index ? count.toFixed(1) : Math.round(count)} ${units[index]}`;
}
