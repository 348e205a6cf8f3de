// MLflow keeps its places behind a #, which no server sees. `/mlflow/#/experiments/1/runs/…` is what links to a run look like:
// the page at `/mlflow/` hands them on to MLflow itself, and for who may read all of it every other place too.
"use strict";
{
  const { app, all } = document.currentScript.dataset;
  const places = all === undefined ? /^#\/experiments\/\d+\/runs\/\w/ : /^#\//;
  const handOn = () => {
    if (places.test(location.hash)) location.replace(app + location.hash);
  };
  addEventListener("hashchange", handOn);
  handOn();
}
