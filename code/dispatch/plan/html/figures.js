// What the choice comes to: figures, chips, workers, and what to drop where nothing is left.

const wholeFigures = new Map();
for (const shown of document.querySelectorAll("[data-figure]")) {
  wholeFigures.set(shown, shown.textContent);
}

// The figures of what is chosen, of the whole; `workers` is null where nothing is chosen.
function showFigures(chosen, chosenTasks, workers) {
  const sum = (column) => chosenTasks.reduce((total, task) => total + column[task], 0);
  const figures = {
    assets: () => number(chosen.length),
    tasks: () => number(chosenTasks.length),
    files: () => number(sum(tasks.files)),
    size: () => size(sum(tasks.size)),
    workers: () => (holdsAll ? number(workers.length) : "?"),
  };
  for (const [shown, whole] of wholeFigures) {
    if (!workers) shown.textContent = whole;
    else {
      const part = figures[shown.dataset.figure]();
      shown.replaceChildren(part, make("span", { class: "whole" }, ` of ${whole}`));
    }
  }
  byId("lead").textContent = workers ? "Chosen" : "Nothing is chosen, which is all";
}

// What each worker has: where nothing is chosen as the plan has it, else dealt anew.
function showWorkers(workers) {
  workerOf = tasks.worker;
  if (workers) {
    workerOf = [];
    workers.forEach((held, worker) => {
      for (const task of held) workerOf[task] = worker;
    });
  }
  const isKnown = !workers || holdsAll;
  byId("dealt").hidden = !workers?.length;
  byId("dealt").textContent = isKnown
    ? "The workers of what is chosen, to whom its tasks are dealt anew."
    : "This page does not hold all tasks: the log of the command tells its workers.";
  const loads = document.querySelector("#workers .pair");
  if (loads) loads.hidden = !isKnown || workers?.length === 0;
  if (!loads?.hidden) drawLoads(workers);
}

// A chip for each thing that is chosen, which takes it back.
function showChips() {
  const chips = [];
  const add = (field, text, takeBack) => {
    const words = `${field.title}: ${text}`;
    const name = { type: "button", title: words, "aria-label": `Take back ${words}` };
    const chip = make("button", name, make("span", {}, visible(words)), make("span", {}, "×"));
    chip.addEventListener("click", () => {
      takeBack();
      choiceChanged();
      (byId("chips").querySelector("button") ?? byId("clear")).focus();
    });
    chips.push(chip);
  };
  for (const field of fields) {
    for (const value of field.chosen) {
      add(field, nameOf(value), () => field.chosen.delete(value));
    }
    for (const end of ["from", "to"]) {
      if (field[end]) add(field, `${end} ${field[end]}`, () => (field[end] = ""));
    }
  }
  byId("chips").replaceChildren(...chips);
}

function dropChoice(field) {
  Object.assign(field, { chosen: new Set(), from: "", to: "" });
}

// Where nothing is left: what there would be without the choice in one field.
function showWhatToDrop({ chosen, counts }, isNarrowed) {
  const isEmpty = isNarrowed && !chosen.length;
  byId("nothing").hidden = !isEmpty;
  byId("nothing").replaceChildren();
  if (!isEmpty) return;
  const helpful = fields.filter((field) => isChosen(field) && counts.get(field).without);
  const sentence = helpful.length
    ? "No asset has all of this. Drop a choice:"
    : "No asset has all of this, nor would any without one of these choices: drop several.";
  const buttons = helpful.map((field) => {
    const words = `${field.title}, which leaves ${count(counts.get(field).without, "asset")}`;
    const button = make("button", { type: "button", class: "copy" }, words);
    button.addEventListener("click", () => {
      dropChoice(field);
      choiceChanged();
      byId("clear").focus();
    });
    return button;
  });
  byId("nothing").append(make("span", {}, sentence), ...buttons);
}
