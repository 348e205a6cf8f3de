// Offers the metrics that the scorer declares, and fills a row from the one that is chosen. The server fills what stays empty.
"use strict";
const declared = JSON.parse(document.getElementById("declared-by-scorer").textContent);
const scorer = document.getElementById("id_scorer");
const options = document.getElementById("declared-metrics");
const metrics = () => declared[scorer.value.trim()] ?? [];

function offer() {
  options.replaceChildren(...metrics().map(({ name, label }) => Object.assign(document.createElement("option"), { value: name, label })));
}

function fill(row, metric) {
  for (const [field, value] of Object.entries(metric)) {
    const input = document.getElementById(`id_${row}-${field}`);
    if (field === "name" || !input || (input.value !== "" && input.value !== input.dataset.filled)) continue;
    input.value = value ?? "";
    input.dataset.filled = input.value;
  }
}

if (scorer) {
  scorer.addEventListener("input", offer);
  offer();
  document.addEventListener("change", (event) => {
    const row = /^id_(metrics-\d+)-name$/.exec(event.target.id)?.[1];
    const metric = row && metrics().find(({ name }) => name === event.target.value);
    if (metric) fill(row, metric);
  });
}
