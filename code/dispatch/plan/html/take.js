// What is taken home: a filter and its command, which ask anew; or exactly these tasks of the plan.

// The conditions of the choice. "(none)" is whatever holds no string: null, missing, [], a number.
function conditions(chosen) {
  if (assets.record_id) return [{ _id: { $in: chosen.map((asset) => assets.record_id[asset]) } }];
  return fields.filter(isChosen).map((field) => {
    const branches = field.name === "date" ? daysAsked(field) : valuesAsked(field);
    return branches.length === 1 ? branches[0] : { $or: branches };
  });
}

// The filters that ask for days, one for each path that has any here; "unknown" is not later.
function daysAsked(field) {
  const end = dayAfter(field.to);
  const range = { ...(field.from && { $gte: field.from }), ...(end && { $lt: end }) };
  const held = field.paths.filter((_, place) => field.sets.some((set) => set?.[place].length));
  return held.map((path) => ({ [path]: { $regex: field.isKnown.source, ...range } }));
}

// The filters that ask for values, one for each path that they stand at.
function valuesAsked(field) {
  const values = field.options.filter((value) => value !== null && field.chosen.has(value));
  const strings = field.paths.map(() => []);
  for (const value of values) {
    const places = field.spelt.get(value) ?? [[0, value]];
    for (const [place, string] of places) strings[place].push(string);
  }
  const branches = [];
  field.paths.forEach((path, place) => {
    const asked = strings[place];
    if (asked.length) branches.push({ [path]: asked.length === 1 ? asked[0] : { $in: asked } });
  });
  if (field.chosen.has(null)) {
    const none = field.paths.map((path) => ({ [path]: { $type: "string" } }));
    branches.push({ $nor: none });
  }
  return branches;
}

// The filter as JSON. The dry run's own stays the string that it is: JavaScript rounds numbers.
function filterOf(chosen, indent) {
  const asked = data.query && data.query !== "{}" ? [indent ? original.filter : data.query] : [];
  const added = conditions(chosen).map((condition) => JSON.stringify(condition, null, indent));
  const parts = [...asked, ...added].map(visible);
  if (parts.length === 1) return parts[0];
  if (!indent) return `{"$and":[${parts.join(",")}]}`;
  const inner = parts.map((part) => part.replace(/^/gm, " ".repeat(2 * indent)));
  const pad = " ".repeat(indent);
  return `{\n${pad}"$and": [\n${inner.join(",\n")}\n${pad}]\n}`;
}

// The ids that were asked for, in their order: any of an asset's ids may have been.
function idsOf(chosen) {
  const ids = chosen.map((asset) => assets.id[asset]);
  const isPlain = ids.every((id) => /^[\w-]+$/.test(id));
  return visible(isPlain ? ids.join(",") : JSON.stringify(ids));
}

const isTooLong = (word) => new Blob([word]).size > LONGEST_ARGUMENT;

// ------------------------------------------------------------------ what can be said in which way

const alsoNamed = new Map(data.also_named);

// Why no filter, or list, says what is chosen; "" if one does.
function whyNoFilter(chosen, isNarrowed) {
  if (!isNarrowed) return data.takes_plan ? data.no_filter : "";
  if (data.no_filter) return data.no_filter;
  const ofTasks = taskFields.filter(isChosen).map(({ title }) => title);
  if (ofTasks.length) return `${ofTasks.join(", ")} tells of tasks, and a filter chooses assets.`;
  const chosenAssets = new Set(chosen);
  for (const id of assets.id ? chosen.map((asset) => assets.id[asset]) : []) {
    const others = alsoNamed.get(id) ?? [];
    if (!others.every((asset) => chosenAssets.has(asset))) {
      const all = count(others.length, "record");
      return `A list names all ${all} called ${visible(id)}, of which only some are chosen.`;
    }
  }
  return "";
}

function whyNotExactly(isNarrowed) {
  if (!isNarrowed || holdsAll) return "";
  const held = `This page holds ${number(allTasks.length)} of ${count(data.all_tasks, "task")}.`;
  return `${held} Of dispatch_plan.csv, delete the rows of the others, and give it to --task_id.`;
}

// ----------------------------------------------------------------------------- what is shown of it

const original = {};
for (const id of ["filter", "command", "portable", "exact", "exact-portable"]) {
  original[id] = byId(id).textContent;
}

function showWays(chosen, chosenTasks, isNarrowed) {
  const nothing = isNarrowed && !chosen.length;
  const noFilter = whyNoFilter(chosen, isNarrowed);
  const noTasks = whyNotExactly(isNarrowed);
  for (const way of document.querySelectorAll("[data-way]")) {
    const why = nothing ? "Nothing is left." : way.dataset.way === "filter" ? noFilter : noTasks;
    way.querySelector(".why").textContent = why;
    way.querySelector(".why").hidden = !why;
    way.querySelector(".taken").hidden = Boolean(why);
  }
  if (!noFilter) showFilter(chosen, chosenTasks, isNarrowed);
  if (!noTasks) showExactly(chosenTasks, isNarrowed);
  byId("others").hidden = !hasOthers(chosen, chosenTasks, isNarrowed) || Boolean(noFilter);
  // what has been copied is no longer what is shown
  for (const button of copyButtons) button.nextElementSibling.textContent = "";
}

// Whether a task has assets that are not chosen, too.
function hasOthers(chosen, chosenTasks, isNarrowed) {
  const chosenAssets = new Set(isNarrowed ? chosen : allAssets);
  return chosenTasks.some((task) => !tasks.assets[task].every((asset) => chosenAssets.has(asset)));
}

function showString(id, string) {
  byId(id).textContent = string;
  byId(id).classList.toggle("long", string.length > LONG_STRING);
}

function showFilter(chosen, chosenTasks, isNarrowed) {
  let { filter, command, portable } = original;
  let isLong = false;
  if (isNarrowed) {
    const word = quoted(assets.id ? idsOf(chosen) : filterOf(chosen, 0));
    isLong = isTooLong(word);
    let choosing = `--query ${isLong ? "query.json" : word}`;
    if (assets.id) choosing = isLong ? "--use_data_asset_csv 1" : `--asset ${word}`;
    else filter = filterOf(chosen, 2);
    // of an asset that is cut, no more tasks than are shown
    if (data.limits) choosing += ` --max_tasks ${chosenTasks.length}`;
    command = `${data.command_without_query} ${choosing}`;
    portable = `${data.portable_without_query} ${choosing}`;
  }
  showString("filter", filter);
  showString("command", command);
  showString("portable", portable);
  byId("too-long").hidden = !isLong;
  byId("filter-block").hidden = !filter;
  byId("no-filter").hidden = Boolean(filter);
  byId("download").hidden = !filter && !(assets.id && isNarrowed);
  document.querySelector("#bar [data-copy=filter]").hidden = !filter;
}

function showExactly(chosenTasks, isNarrowed) {
  let { exact, "exact-portable": portable } = original;
  let isLong = false;
  if (isNarrowed) {
    const ids = chosenTasks.map((task) => tasks.id[task]).join(",");
    isLong = ids.length > LONGEST_ARGUMENT;
    const word = isLong ? "task_ids.csv" : /^[\w,-]+$/.test(ids) ? ids : quoted(visible(ids));
    const part = `--task_id ${word} ${data.sharing.flags}`;
    exact = `${data.exact_command} ${part}`;
    portable = `${data.exact_portable} ${part}`;
  }
  showString("exact", exact);
  showString("exact-portable", portable);
  byId("too-many").hidden = !isLong;
}

// -------------------------------------------------------------------------------------- downloads

function save(string, name, type) {
  const file = new Blob([string, "\n"], { type });
  make("a", { href: URL.createObjectURL(file), download: name }).click();
}

const inCsv = (string) => `"${string.replaceAll('"', '""')}"`;

function saveColumn(title, strings, name) {
  save([title, ...strings.map(inCsv)].join("\n"), name, "text/csv");
}

function saveFilter() {
  if (!assets.id) save(byId("filter").textContent, "query.json", "application/json");
  else {
    const ids = choose().chosen.map((asset) => assets.id[asset]);
    saveColumn("asset_id", ids, "data_asset_input.csv");
  }
}

function saveTaskIds() {
  const ids = inOrder.filter((task) => isChosenTask[task]).map((task) => tasks.id[task]);
  saveColumn("task_id", ids, "task_ids.csv");
}
