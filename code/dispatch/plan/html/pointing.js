// What a picture says of the place that is pointed at, and what a click there chooses.

// For each picture a function of x and y in it: what is there, in words, where it is drawn, and
// what chooses it if anything does; null if nothing is there.
const pointed = new Map();
const tip = byId("tip");

function partAt(event) {
  const svg = event.currentTarget.querySelector("svg");
  const { left, top, width } = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / width;
  const [x, y] = [(event.clientX - left) * scale, (event.clientY - top) * scale];
  return pointed.get(event.currentTarget)?.(x, y) ?? null;
}

function stopPointing(picture) {
  tip.hidden = true;
  picture.style.cursor = "";
  picture.querySelector(".pointed")?.remove();
}

function showPart(event) {
  const picture = event.currentTarget;
  const part = partAt(event);
  stopPointing(picture);
  if (!part) return;
  picture.style.cursor = part.choose ? "pointer" : "";
  picture.querySelector("svg").append(shape("rect", { ...part.place, class: "pointed" }));
  tip.textContent = part.words;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY - height - 10)}px`;
}

for (const picture of document.querySelectorAll(".picture")) {
  picture.addEventListener("pointermove", showPart);
  picture.addEventListener("pointerleave", () => stopPointing(picture));
  picture.addEventListener("click", (event) => {
    const part = partAt(event);
    stopPointing(picture);
    part?.choose?.();
  });
}

// Choose a subject, some days, or both; what is chosen so already is taken back.
function chooseIn(subject, days) {
  const [bySubject, byDate] = ["subject", "date"].map((name) => fields.find(isNamed(name)));
  const [from, to] = (days ?? []).map((day) => (isDay(day) ? day : ""));
  const isSame =
    (subject === null || (bySubject.chosen.size === 1 && bySubject.chosen.has(subject))) &&
    (!days || (byDate.from === from && byDate.to === to));
  if (subject !== null) bySubject.chosen = new Set(isSame ? [] : [subject]);
  if (days) Object.assign(byDate, isSame ? { from: "", to: "" } : { from, to });
  choiceChanged();
}
