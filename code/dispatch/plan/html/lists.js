// The lists to choose from, the address that keeps the choice, and the buttons.

// What there are several of, where that is not the title with an s.
const NOUNS = { modalitys: "modalities", compareds: "kinds" };

// One stop of the Tab key per list: the arrow keys, Home and End move inside.
const STOPS = "li:not([hidden]) input, li:not([hidden]) button";

function moveInside(list, event) {
  const boxes = [...list.querySelectorAll(STOPS)];
  const place = boxes.indexOf(event.target);
  const last = boxes.length - 1;
  const steps = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: last };
  if (!(event.key in steps)) return;
  event.preventDefault();
  boxes[Math.min(Math.max(steps[event.key], 0), last)].focus();
}

function stopAt(list, box) {
  for (const each of list.querySelectorAll(STOPS)) each.tabIndex = each === box ? 0 : -1;
}

function listValues(field) {
  const id = `values-of-${field.name}`;
  const list = make("ul", { class: "values framed", id });
  const note = make("p", { class: "quiet" });
  const searchBox = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const { title } = field;
  searchBox.id = `search-${field.name}`;
  searchBox.placeholder = "part of a name";
  searchBox.setAttribute("aria-controls", id);
  const searchLabel = make("label", { for: searchBox.id }, `Search: ${title.toLowerCase()}`);
  list.setAttribute("aria-label", title);
  list.addEventListener("keydown", (event) => moveInside(list, event));
  list.addEventListener("focusin", (event) => stopAt(list, event.target));
  let counts = new Map();
  let rows = [];

  // Those that some assets have, and those that are chosen.
  function fill() {
    const wanted = searchBox.value.toLowerCase().trim();
    const there = field.options.filter((value) => counts.get(value));
    const fitting = there.filter((value) => nameOf(value).toLowerCase().includes(wanted));
    const first = new Set(fitting.slice(0, VALUES_AT_ONCE));
    const listed = field.options.filter((value) => first.has(value) || field.chosen.has(value));
    const all = field.options.length;
    const noun = `${title.toLowerCase()}${all === 1 ? "" : "s"}`;
    const more = first.size < fitting.length ? ": search for more" : "";
    note.textContent = `${number(first.size)} of ${number(all)} ${NOUNS[noun] ?? noun}${more}`;
    note.hidden = first.size === all;
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
      const label = make("label", {}, box, make("span", {}, visible(nameOf(value))), countShown);
      return { value, box, countShown, label };
    });
    list.hidden = !rows.length;
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

  field.show = ({ byValue }) => {
    counts = byValue;
    fill();
  };
  searchBox.addEventListener("input", fill);
  searchBox.hidden = field.options.length <= 10;
  searchLabel.hidden = searchBox.hidden;
  return make("fieldset", {}, make("legend", {}, title), searchLabel, searchBox, list, note);
}

// Two dates, and a button for each month that has sessions.
function listDays(field) {
  const inputs = ["from", "to"].map((end) => dayInput(field, end));
  const months = [...new Set(field.options.map((day) => day.slice(0, 7)))];
  const list = make("ul", { class: "values framed", id: "months", "aria-label": "Months" });
  list.addEventListener("keydown", (event) => moveInside(list, event));
  list.addEventListener("focusin", (event) => stopAt(list, event.target));
  const rows = months.map((month) => monthButton(field, month));
  const monthsOfSets = field.sets.map((set) => {
    const days = new Set(valuesIn(set));
    // of several days, one can be late enough and another early enough for any month
    const [day] = days;
    const near = days.size > 1 ? rows : rows.filter(({ month }) => day?.startsWith(month));
    return near.filter(({ first, last }) => passesDays(field, set, first, last));
  });
  list.append(...rows.map(({ item }) => item));
  list.hidden = !months.length;
  field.show = ({ bySet }) => {
    for (const { end, input } of inputs) input.value = field[end];
    const counts = new Map(rows.map(({ month }) => [month, 0]));
    monthsOfSets.forEach((passing, set) => {
      for (const { month } of passing) counts.set(month, counts.get(month) + bySet[set]);
    });
    for (const { month, item, button, held, first, last } of rows) {
      const isOn = field.from === first && field.to === last;
      const assetCount = counts.get(month);
      held.textContent = number(assetCount);
      item.hidden = !assetCount && !isOn;
      button.setAttribute("aria-pressed", isOn);
    }
    if (!list.contains(document.activeElement)) {
      stopAt(list, list.querySelector("li:not([hidden]) button"));
    }
  };
  const dates = make("div", { class: "dates" }, ...inputs.map(({ label }) => label));
  return make("fieldset", {}, make("legend", {}, field.title), dates, list);
}

function dayInput(field, end) {
  const input = make("input", { type: "date", id: `date-${end}`, max: "9999-12-30" });
  input.addEventListener("change", () => {
    field[end] = isDay(input.value) ? input.value : "";
    choiceChanged();
  });
  const label = make("label", {}, end === "from" ? "From" : "To", input);
  return { end, input, label };
}

function monthButton(field, month) {
  const days = daysOf(PERIODS.month, PERIODS.month.of(month));
  const [first, last] = days.map((day) => (isDay(day) ? day : ""));
  const held = make("span", { class: "held" });
  const button = make("button", { type: "button" }, make("span", {}, month), held);
  button.addEventListener("click", () => {
    const isOn = field.from === first && field.to === last;
    Object.assign(field, isOn ? { from: "", to: "" } : { from: first, to: last });
    choiceChanged();
  });
  return { month, item: make("li", {}, button), button, held, first, last };
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
        field[end] = isDay(pairs.get(end)) ? pairs.get(end) : "";
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

function clearChoice() {
  fields.forEach(dropChoice);
  choiceChanged();
}

function followAddress() {
  // a link to a section of the page took the place of the choice, which comes back
  if (location.hash && !location.hash.includes("=")) {
    if (fields.some(isChosen)) writeAddress();
    return;
  }
  readAddress();
  narrow();
}

if (allTasks.length) {
  const isTold = (field) => field.options.some((value) => value !== null);
  byId("choices").append(
    ...fields.map((field) => {
      const list = field.name === "date" ? listDays(field) : listValues(field);
      list.hidden = !isTold(field); // no record here says anything of it
      return list;
    })
  );
  byId("clear").addEventListener("click", clearChoice);
  byId("download").addEventListener("click", saveFilter);
  if (assets.id) byId("download").textContent = "Download data_asset_input.csv";
  for (const button of document.querySelectorAll(".download-ids")) {
    button.addEventListener("click", saveTaskIds);
  }
  addEventListener("hashchange", followAddress);
  readAddress();
  narrow();
} else {
  drawLoads(null);
  showAssets([]);
  listTasks();
  listSkips();
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
