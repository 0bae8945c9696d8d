// What is chosen: the fields to choose by, the assets and tasks that pass, and how many would.

// A record has several values of a field, or none, which is null: a set. `rows` says which set an
// asset has. Records hold a field at one path or another, and spell a value in one way or another:
// `spelt` has the number of the path and the string, of values that are not the same at the first.
// Dates are cut to their day: `>=` and `<` say of a day what they say of the whole. Of a field with
// `tasks`, each task has a value of its own, and assets are chosen by those of their tasks.
const fields = data.choices.map((choice) => {
  const { name, title, paths, pattern, values: sets, rows, skip_rows: skipRows, spelt } = choice;
  const held = [...new Set(rows)].flatMap((row) => valuesIn(sets[row]));
  const distinct = [...new Set(choice.tasks?.values ?? held)];
  const byLabel = (a, b) => (a === null) - (b === null) || natural(nameOf(a), nameOf(b));
  const options = distinct.filter((value) => name !== "date" || isDay(value)).sort(byLabel);
  return {
    name,
    title: title[0].toUpperCase() + title.slice(1),
    paths,
    isKnown: new RegExp(pattern),
    sets,
    rows,
    skipRows,
    options,
    spelt: new Map(spelt),
    ofTasks: choice.tasks,
    chosen: new Set(),
    from: "",
    to: "",
  };
});
const assetFields = fields.filter((field) => !field.ofTasks);
const taskFields = fields.filter((field) => field.ofTasks);
const isNamed = (name) => (field) => field.name === name;

function nameOf(value) {
  return value === null ? "(none)" : value === "" ? "(empty)" : value;
}

// The values of a set; of days, a set has a list for each path that they stand at.
function valuesIn(set) {
  return set?.flat() ?? [null];
}

// Whether a value is a day, and the next one has a name in four digits, too.
function isDay(value) {
  if (!/^\d{4}-\d\d-\d\d$/.test(value ?? "")) return false;
  return value < "9999-12-31" && dayOf(dayNumber(value) || 0) === value;
}

const dayAfter = (day) => day && dayOf(dayNumber(day) + 1);

function isChosen(field) {
  return field.chosen.size > 0 || field.from !== "" || field.to !== "";
}

function passes(field, set) {
  if (!isChosen(field)) return true;
  if (field.name === "date") return passesDays(field, set, field.from, field.to);
  return valuesIn(set).some((value) => field.chosen.has(value));
}

// Whether a path has a known day, one that is late enough, and one that is early enough.
function passesDays(field, set, from, to) {
  const end = dayAfter(to);
  return (set ?? []).some((days) => {
    const known = days.some((day) => field.isKnown.test(day));
    const later = !from || days.some((day) => day >= from);
    const earlier = !end || days.some((day) => day < end);
    return known && later && earlier;
  });
}

function passesTask(field, task) {
  return !isChosen(field) || field.chosen.has(valueOfTask(field, task));
}

function valueOfTask(field, task) {
  return field.ofTasks.values[field.ofTasks.rows[task]];
}

// The assets and tasks that all choices let pass; for each field how many assets have a value if
// nothing is chosen in it, and how many assets that are together.
function choose() {
  const passing = new Map(assetFields.map((field) => [field, passingSets(field)]));
  const failedBy = allAssets.map((asset) =>
    assetFields.filter((field) => !passing.get(field)[field.rows[asset]])
  );
  const passesAll = failedBy.map((failed) => !failed.length);
  const failsTasks = (task, except) =>
    taskFields.some((field) => field !== except && !passesTask(field, task));
  const isChosenTask = allTasks.map(
    (task) => !failsTasks(task) && tasks.assets[task].some((asset) => passesAll[asset])
  );
  const reached = assetsReached((task) => !failsTasks(task));
  const counts = new Map();
  for (const field of assetFields) counts.set(field, countSets(field, failedBy, reached));
  for (const field of taskFields) {
    counts.set(field, countTasks(field, passesAll, (task) => !failsTasks(task, field)));
  }
  const chosen = allAssets.filter((asset) => passesAll[asset] && reached(asset));
  return { chosen, isChosenTask, counts };
}

function passingSets(field) {
  return field.sets.map((set) => passes(field, set));
}

// Whether an asset has a task that passes; all have, where no field is of tasks.
function assetsReached(passesTasks) {
  if (!taskFields.length) return () => true;
  const found = new Set(allTasks.filter(passesTasks).flatMap((task) => tasks.assets[task]));
  return (asset) => found.has(asset);
}

// How many assets that the choices in other fields let pass have each value, and there are.
function countSets(field, failedBy, reached) {
  const bySet = new Array(field.sets.length).fill(0);
  let all = 0;
  let without = 0;
  for (const asset of allAssets) {
    const failed = failedBy[asset];
    const isLetIn = !failed.length || (failed.length === 1 && failed[0] === field);
    if (!isLetIn || !reached(asset)) continue;
    bySet[field.rows[asset]] += 1;
    without += 1;
  }
  const byValue = new Map(field.options.map((value) => [value, 0]));
  field.sets.forEach((set, place) => {
    if (!bySet[place]) return;
    for (const value of new Set(valuesIn(set))) {
      byValue.set(value, byValue.get(value) + bySet[place]);
    }
  });
  return { byValue, bySet, without };
}

function countTasks(field, passesAll, passesOthers) {
  const byValue = new Map(field.options.map((value) => [value, new Set()]));
  const without = new Set();
  for (const task of allTasks.filter(passesOthers)) {
    for (const asset of tasks.assets[task].filter((each) => passesAll[each])) {
      byValue.get(valueOfTask(field, task)).add(asset);
      without.add(asset);
    }
  }
  for (const [value, found] of byValue) byValue.set(value, found.size);
  return { byValue, without: without.size };
}

function narrow() {
  const isNarrowed = fields.some(isChosen);
  const choice = choose();
  ({ isChosenTask } = choice);
  const chosenTasks = inOrder.filter((task) => isChosenTask[task]);
  const workers = isNarrowed ? deal(chosenTasks, data.sharing, tasks.size) : null;
  for (const field of fields) field.show(choice.counts.get(field));
  showChips();
  showFigures(choice.chosen, chosenTasks, workers);
  showWorkers(workers);
  showWhatToDrop(choice, isNarrowed);
  showAssets(choice.chosen);
  listTasks();
  listSkips();
  showWays(choice.chosen, chosenTasks, isNarrowed);
}
