// The submit page: what will be refused is told before anything is sent, the config is edited in place, and the upload
// says how it goes. Without this script the form works all the same; the server checks everything again.
"use strict";

const words = document.getElementById("upload-words").dataset;
const FOLDERS_MOST = 5000;
const CONFIG_MOST_BYTES = 64 * 1024;
// What lies in every folder and nobody means to send.
const JUNK =
  /(^|\/)(\.[^/]+|__pycache__|__MACOSX|node_modules|venv|Thumbs\.db|desktop\.ini|README(\.(md|rst))?|LICEN[CS]E(\.md)?|NOTICE|COPYING)(\/|$)|\.pyc$/i;
const BARE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/;
const isArchive = (name) => /\.(zip|tar\.gz)$/i.test(name);
const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// As core/sizes.py writes them.
function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  for (; Math.round(count * 10) >= 10240 && index < units.length - 1; index++) count /= 1024;
  const digits = index && Math.round(count * 10) < 1000 ? 1 : 0;
  return `${count.toFixed(digits).replace(/\.0$/, "")} ${units[index]}`;
}

// --- What was chosen -----------------------------------------------------------------------------------------------
// A file with the path that it will have. A folder around everything is taken off: it says nothing.
function withoutCommonFolder(chosen) {
  const tops = new Set(chosen.map(({ path }) => path.split("/")[0]));
  if (tops.size !== 1 || !chosen.every(({ path }) => path.includes("/"))) return chosen;
  return chosen.map(({ file, path }) => ({ file, path: path.slice(path.indexOf("/") + 1) }));
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  const walk = async (entry) => {
    if (found.length > FOLDERS_MOST) return;
    const path = entry.fullPath.replace(/^\//, "");
    if (entry.isFile) {
      found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    } else if (!JUNK.test(path)) {
      const reader = entry.createReader();
      for (;;) {
        // A reader gives a hundred at a time, and none when it has given all.
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const one of some) await walk(one);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

function whyNot({ path }, count, extensions) {
  const parts = path.split("/");
  if (/[\\\p{C}\p{Zl}\p{Zp}]/u.test(path) || parts.includes("..") || parts.length > 12) return words.name;
  if (parts.some((part) => new Blob([part]).size > 100) || new Blob([path]).size > 240) return words.name;
  if (!extensions.some((extension) => path.toLowerCase().endsWith(extension))) return words.extension;
  return isArchive(path) && count > 1 ? words.archive : "";
}

// What a run must leave, of the chosen leaderboard: its own block, or that of those where runs report their numbers.
function showLeavings(slug) {
  const blocks = [...document.querySelectorAll("[data-leaves]")];
  const own = blocks.find((block) => block.dataset.leaves === slug) ?? blocks[0];
  for (const block of blocks) block.hidden = block !== own;
}

// Where the leaderboard gives every run a writable code folder, there is nothing to choose; the choice comes back elsewhere.
function showWritable(slug) {
  const field = document.querySelector("[data-writable]");
  const box = document.querySelector("[name=writable_code]");
  const isGiven = field.dataset.writable.split(" ").includes(slug);
  if (isGiven && !box.disabled) box.dataset.chosen = box.checked ? "yes" : "";
  if (isGiven) box.checked = true;
  else if (box.disabled) box.checked = Boolean(box.dataset.chosen);
  box.disabled = isGiven;
  field.querySelector("[data-writable-given]").hidden = !isGiven;
}

// What concerns other leaderboards only is hidden.
function showBoard(slug) {
  for (const part of document.querySelectorAll("[data-of]")) part.hidden = !part.dataset.of.split(" ").includes(slug);
  showLeavings(slug);
  showWritable(slug);
}

function prepare(form, state) {
  const find = (name) => form.querySelector(`[data-${name}]`);
  const input = form.querySelector("[name=files]");
  const folderInput = find("folder-input");
  const entrypoint = form.querySelector("[name=entrypoint]");
  const configFile = form.querySelector("[name=config_file]");
  const send = find("send");
  const leaderboard = form.querySelector("[name=leaderboard]");
  const extensions = input.dataset.extensions.split(" ");
  const editor = editorOf(form, state, () => check());

  const choose = (chosen) => {
    const wanted = chosen.filter(({ path }) => !JUNK.test(path));
    state.skipped = chosen.length - wanted.length;
    state.chosen = withoutCommonFolder(wanted).sort((a, b) => (a.path < b.path ? -1 : 1));
    state.edited = null;
    show();
  };

  const show = () => {
    // The form's own field holds them too, so that the browser does not ask for files that are there.
    const transfer = new DataTransfer();
    for (const { file } of state.chosen) transfer.items.add(file);
    input.files = transfer.files;
    editor.load();
    check();
  };

  const check = () => {
    const { chosen } = state;
    const list = find("files");
    const had = document.activeElement?.dataset?.path;
    list.replaceChildren();
    let refused = 0;
    const line = (text, detail, isBad, path) => {
      refused += isBad ? 1 : 0;
      const item = element("li", { className: isBad ? "bad" : "" });
      item.append(element("span", { className: "cut", textContent: text }), element("span", { textContent: detail }));
      if (path) {
        const leave = element("button", { type: "button", className: "leave", textContent: "×" });
        leave.setAttribute("aria-label", `${words.leave} ${path}`);
        leave.dataset.path = path;
        leave.addEventListener("click", () => leaveOut([path]));
        item.append(leave);
      }
      list.append(item);
    };
    const seen = new Set();
    state.bad = [];
    let total = 0;
    for (const one of chosen) {
      const key = one.path.normalize("NFC").toLowerCase();
      const why = whyNot(one, chosen.length, extensions) || (seen.has(key) ? words.twice : "");
      seen.add(key);
      total += one.file.size;
      if (why) state.bad.push(one.path);
      line(one.path, why || bytes(one.file.size), Boolean(why), one.path);
    }
    if (had) list.querySelector(`[data-path="${CSS.escape(had)}"]`)?.focus();
    const mostFiles = Number(input.dataset.maxFiles);
    const mostBytes = Number(input.dataset.maxBytes);
    if (chosen.length > mostFiles) line(words.count, `${chosen.length} > ${mostFiles}`, true);
    if (total > mostBytes) line(words.size, `${bytes(total)} > ${bytes(mostBytes)}`, true);
    const isLoose = chosen.length && !chosen.some(({ path }) => isArchive(path));
    const has = (name) => chosen.some(({ path }) => path === name);
    for (const field of [entrypoint, configFile]) {
      if (chosen.length && !BARE_NAME.test(field.value)) line(words.bare, field.value, true);
    }
    if (isLoose && !has(entrypoint.value)) line(words.entrypoint, entrypoint.value, true);
    if (isLoose && configFile.value !== configFile.defaultValue && !has(configFile.value)) {
      line(words.config, configFile.value, true);
    }
    find("chosen").hidden = !chosen.length;
    find("leave-all").hidden = !state.bad.length;
    const counted = chosen.length === 1 ? words.one : words.files.replace("{count}", chosen.length);
    const told = [counted, bytes(total), refused ? words.refused.replace("{count}", refused) : words.fine];
    const leftOut = element("span", { className: "left-out", textContent: words.leftOut.replace("{count}", state.skipped) });
    find("summary").replaceChildren(told.join(" · "), ...(state.skipped ? [leftOut] : []));
    find("summary").className = refused ? "small why" : "small";
    send.disabled = refused > 0 || "blocked" in send.dataset;
  };

  const leaveOut = (paths) => {
    const index = state.chosen.findIndex(({ path }) => path === paths[0]);
    state.chosen = state.chosen.filter(({ path }) => !paths.includes(path));
    show();
    // The button is gone; the next one takes the focus, so that the keyboard does not start at the top again.
    const buttons = find("files").querySelectorAll("button");
    (buttons[Math.min(index, buttons.length - 1)] ?? input).focus();
  };

  leaderboard.addEventListener("change", () => showBoard(leaderboard.value));
  showBoard(leaderboard.value);
  input.addEventListener("change", () => choose([...input.files].map((file) => ({ file, path: file.name }))));
  folderInput.addEventListener("change", () => {
    choose([...folderInput.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  });
  find("folder").disabled = false;
  find("folder").addEventListener("click", () => folderInput.click());
  find("leave-all").addEventListener("click", () => leaveOut([...state.bad]));
  entrypoint.addEventListener("input", check);
  configFile.addEventListener("input", () => { editor.load(); check(); });

  // While no submission is left; the server decides.
  if ("blocked" in send.dataset) {
    setTimeout(() => { delete send.dataset.blocked; check(); }, Number(send.dataset.blocked) * 1000);
  }

  const drop = find("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    choose(await dropped(event.dataTransfer));
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!send.disabled) upload(form, state);
  });
  if (state.chosen.length) show();
  else if (input.files.length) input.dispatchEvent(new Event("change"));  // a browser may keep them over a reload
}

// --- The config file, edited before it is sent ---------------------------------------------------------------------
function editorOf(form, state, changed) {
  const box = form.querySelector("[data-editor]");
  const area = box.querySelector("textarea");
  const problem = box.querySelector("[data-problem]");
  const reset = box.querySelector("[data-reset]");
  const name = () => form.querySelector("[name=config_file]").value;
  const found = () => state.chosen.find(({ path }) => path === name());
  let timer = 0;

  const ask = async () => {
    const body = new URLSearchParams({ text: area.value, name: name() });
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    const asked = area.value;
    try {
      const answer = await fetch(form.dataset.check, { method: "POST", body, headers: { "X-CSRFToken": token } });
      if (answer.ok && asked === area.value) {
        problem.textContent = (await answer.json()).problem;
        box.classList.toggle("wrong", Boolean(problem.textContent));
        area.setAttribute("aria-invalid", String(Boolean(problem.textContent)));
      }
    } catch {
      problem.textContent = "";  // not reachable just now: the run will tell
    }
  };
  const edit = () => {
    const one = found();
    if (!one) return;
    state.edited = area.value;
    one.original ??= one.file;
    one.file = new File([area.value], one.original.name, { type: "text/plain" });
    reset.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(ask, 350);
    changed();
  };
  const load = async () => {
    const one = found();
    box.hidden = !one || (one.original ?? one.file).size > CONFIG_MOST_BYTES;
    if (box.hidden) return;
    box.querySelector("[data-editor-label]").textContent = name();
    const text = await one.file.text();
    if (found() !== one) return;
    area.value = text;
    reset.hidden = !one.original;
    ask();
  };
  area.addEventListener("input", edit);
  reset.addEventListener("click", () => {
    const one = found();
    one.file = one.original;
    delete one.original;
    load().then(() => { reset.hidden = true; changed(); area.focus(); });
  });
  const last = form.querySelector("[data-last-config]");
  last?.addEventListener("click", async (event) => {
    event.preventDefault();
    const answer = await fetch(last.dataset.lastConfig).catch(() => null);
    const target = box.hidden ? form.querySelector("[name=config]") : area;
    if (answer?.status !== 200) { last.after(" ", element("span", { className: "why", textContent: words.nothing })); return; }
    target.value = await answer.text();
    if (target === area) edit();
    target.focus();
  });
  return { load };
}

// --- Sending -------------------------------------------------------------------------------------------------------
function upload(form, state) {
  const box = form.querySelector("[data-progress]");
  const bar = box.querySelector("progress");
  const text = box.querySelector("[data-progress-text]");
  const send = form.querySelector("[data-send]");
  const request = new XMLHttpRequest();
  const data = new FormData(form);
  data.delete("files");
  for (const { file } of state.chosen) data.append("files", file);
  data.set("paths", JSON.stringify(state.chosen.map(({ path }) => path)));
  send.disabled = true;
  box.hidden = false;

  // The speed of the last few seconds: what it was a minute ago says nothing about the time left.
  const marks = [{ at: performance.now(), loaded: 0 }];
  request.upload.addEventListener("progress", (event) => {
    const now = performance.now();
    marks.push({ at: now, loaded: event.loaded });
    while (marks.length > 2 && now - marks[0].at > 5000) marks.shift();
    const speed = (event.loaded - marks[0].loaded) / Math.max((now - marks[0].at) / 1000, 0.001);
    bar.value = event.total ? event.loaded / event.total : 0;
    const seconds = Math.ceil((event.total - event.loaded) / Math.max(speed, 1));
    const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    const told = [`${bytes(event.loaded)} / ${bytes(event.total)}`, `${bytes(speed)}/s`, words.left.replace("{time}", left)];
    text.textContent = told.join(" · ");
  });
  request.upload.addEventListener("load", () => { bar.removeAttribute("value"); text.textContent = words.checking; });
  const failed = () => { send.disabled = "blocked" in send.dataset; bar.value = 0; text.textContent = words.failed; };
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
    if (!fresh) {
      failed();
      const told = page.querySelector("main h1");
      if (told) text.textContent = told.textContent;
      return;
    }
    // The same form with what is wrong, and the files as they were chosen and edited: a page cannot set them.
    form.replaceWith(fresh);
    prepare(fresh, state);
    const wrong = fresh.querySelector("[role=alert]");
    if (wrong) wrong.scrollIntoView({ block: "center" });
    (fresh.querySelector("[aria-invalid=true]") ?? fresh.querySelector("[data-send]")).focus({ preventScroll: true });
  });
  request.open("POST", location.href);
  request.send(data);
}

prepare(document.querySelector("form[data-upload]"), { chosen: [], bad: [], skipped: 0, edited: null });
