// The lists to choose from, the address that keeps the choice, and the buttons.

const nameOf = (value) => (value === null ? "(none)" : value === "" ? "(empty)" : value);

// One stop of the Tab key per list: the arrow keys, Home and End move inside.
function moveInside(list, event) {
  const boxes = [...list.querySelectorAll("input")];
  const place = boxes.indexOf(event.target);
  const last = boxes.length - 1;
  const steps = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: last };
  if (!(event.key in steps)) return;
  event.preventDefault();
  boxes[Math.min(Math.max(steps[event.key], 0), last)].focus();
}

function stopAt(list, box) {
  for (const each of list.querySelectorAll("input")) each.tabIndex = each === box ? 0 : -1;
}

function listValues(field) {
  const id = `values-of-${field.name}`;
  const list = make("ul", { class: "values framed", id });
  const note = make("p", { class: "quiet" });
  const searchBox = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const title = TITLES[field.name];
  searchBox.id = `search-${field.name}`;
  searchBox.placeholder = "part of a name";
  searchBox.setAttribute("aria-controls", id);
  const searchLabel = make("label", { for: searchBox.id }, `Search: ${title.toLowerCase()}`);
  list.setAttribute("aria-label", title);
  list.addEventListener("keydown", (event) => moveInside(list, event));
  list.addEventListener("focusin", (event) => stopAt(list, event.target));
  let counts = new Map();
  let rows = [];

  // Those that some assets have come first, each part in its natural order.
  function fill() {
    const wanted = searchBox.value.toLowerCase().trim();
    const there = field.options.filter((value) => counts.get(value));
    const ordered = [...there, ...field.options.filter((value) => !counts.get(value))];
    const fitting = ordered.filter((value) => nameOf(value).toLowerCase().includes(wanted));
    const first = new Set(fitting.slice(0, VALUES_AT_ONCE));
    const listed = ordered.filter((value) => first.has(value) || field.chosen.has(value));
    const all = count(fitting.length, "value");
    note.textContent = `${number(first.size)} of ${all}: search for more`;
    note.hidden = first.size === fitting.length;
    const isSame = listed.length === rows.length;
    if (isSame && rows.every(({ value }, place) => value === listed[place])) {
      if (!list.contains(document.activeElement)) stopAt(list, rows[0]?.box);
      update();
      return;
    }
    rows = listed.map((value) => {
      const box = make("input", { type: "checkbox" });
      box.addEventListener("change", () => {
        if (box.checked) field.chosen.add(value);
        else field.chosen.delete(value);
        choiceChanged();
      });
      const countShown = make("span", { class: "held" });
      const label = make("label", {}, box, make("span", {}, nameOf(value)), countShown);
      return { value, box, countShown, label };
    });
    list.replaceChildren(...rows.map(({ label }) => make("li", {}, label)));
    stopAt(list, rows[0]?.box);
    update();
  }

  function update() {
    for (const { value, box, countShown, label } of rows) {
      const assetCount = counts.get(value) ?? 0;
      countShown.textContent = number(assetCount);
      box.checked = field.chosen.has(value);
      label.classList.toggle("gone", !assetCount);
    }
  }

  field.show = (newCounts) => {
    counts = newCounts;
    fill();
  };
  field.fill = fill;
  searchBox.addEventListener("input", fill);
  searchBox.hidden = field.options.length <= 10;
  searchLabel.hidden = searchBox.hidden;
  return make("fieldset", {}, make("legend", {}, title), searchLabel, searchBox, list, note);
}

function listDays(field) {
  const choice = make("fieldset", {}, make("legend", {}, TITLES[field.name]));
  const selects = ["from", "to"].map((end) => {
    const select = make("select", { id: `date-${end}` }, make("option", { value: "" }, "any"));
    select.append(...field.options.map((day) => make("option", { value: day }, day)));
    select.addEventListener("change", () => {
      field[end] = select.value;
      choiceChanged();
    });
    // there can be thousands of days: their numbers stand there while the list is in use
    for (const event of ["pointerdown", "focus"]) {
      select.addEventListener(event, () => label(select, withCount));
    }
    select.addEventListener("blur", () => label(select, (day) => day));
    choice.append(make("label", { for: select.id }, end === "from" ? "From" : "To"), select);
    return select;
  });
  let counts = new Map();
  function label(select, labelOf) {
    for (const option of select.options) {
      if (option.value) option.textContent = labelOf(option.value);
    }
  }
  const withCount = (day) => `${day} (${number(counts.get(day))})`;
  field.show = (newCounts) => {
    counts = newCounts;
    selects.forEach((select) => {
      select.value = field[select.id.slice("date-".length)];
      if (select === document.activeElement) label(select, withCount);
    });
  };
  field.fill = () => {};
  return choice;
}

// ---------------------------------------------------------------------------------------- address

// The choice as the part of the address behind #, such as project=Striatum&none=subject.
function addressOf() {
  const pairs = new URLSearchParams();
  for (const field of fields) {
    for (const value of field.options) {
      if (!field.chosen.has(value)) continue;
      if (value === null) pairs.append("none", field.name);
      else pairs.append(field.name, value);
    }
    if (field.from) pairs.append("from", field.from);
    if (field.to) pairs.append("to", field.to);
  }
  return String(pairs);
}

function readAddress() {
  const pairs = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    if (field.name === "date") {
      for (const end of ["from", "to"]) {
        field[end] = field.options.includes(pairs.get(end)) ? pairs.get(end) : "";
      }
      continue;
    }
    const wanted = new Set(pairs.getAll(field.name));
    if (pairs.getAll("none").includes(field.name)) wanted.add(null);
    field.chosen = new Set(field.options.filter((value) => wanted.has(value)));
  }
}

function writeAddress() {
  const choice = addressOf();
  history.replaceState(null, "", choice ? `#${choice}` : location.href.split("#")[0]);
}

function choiceChanged() {
  writeAddress();
  narrow();
}

function save(string, name, type) {
  const file = new Blob([string, "\n"], { type });
  make("a", { href: URL.createObjectURL(file), download: name }).click();
}

const inCsv = (string) => `"${string.replaceAll('"', '""')}"`;

byId("download-skipped")?.addEventListener("click", () => {
  const { name, reason } = data.skips;
  const lines = name.map((each, skip) => {
    return `${inCsv(each)},${inCsv(reason.values[reason.rows[skip]])}`;
  });
  save(["asset,reason", ...lines].join("\n"), "skipped.csv", "text/csv");
});

function clearChoice() {
  for (const field of fields) Object.assign(field, { chosen: new Set(), from: "", to: "" });
  fields.forEach((field) => field.fill());
  choiceChanged();
}

if (allTasks.length) {
  byId("choices").append(
    ...fields.map((field) => (field.name === "date" ? listDays(field) : listValues(field)))
  );
  byId("clear").addEventListener("click", clearChoice);
  byId("download").addEventListener("click", () => {
    let [string, name, type] = [byId("filter").textContent, "query.json", "application/json"];
    if (assets.id) {
      const ids = choose().chosen.map((asset) => assets.id[asset]);
      string = [data.list, ...ids.map(inCsv)].join("\n");
      [name, type] = ["data_asset_input.csv", "text/csv"];
    }
    save(string, name, type);
  });
  if (assets.id) byId("download").textContent = "Download data_asset_input.csv";
  addEventListener("hashchange", () => {
    // a link to a section of the page took the place of the choice, which comes back
    if (location.hash && !location.hash.includes("=")) {
      if (fields.some(isChosen)) writeAddress();
      return;
    }
    readAddress();
    fields.forEach((field) => field.fill());
    narrow();
  });
  readAddress();
  fields.forEach((field) => field.fill());
  narrow();
} else {
  drawLoads([], false);
  showAssets([]);
}

// Copy: where the browser keeps the clipboard to itself, the text is selected, for the keyboard.
for (const button of copyButtons) {
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    const status = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      status.textContent = "Selected: press Ctrl+C";
    }
  });
}
