// The page of `pipeline review`. Names of strangers are set as text, never as HTML.
"use strict";

const get = (id) => document.getElementById(id);
const filters = ["reason", "label", "split", "decisions"].map(get);
const classes = [...get("label").options].slice(1).map((option) => option.text);
const choices = new Map(); // by id: {action: "reject" | "keep" | "label", label}
let page = 0;
let images = []; // the images of this page, with their cards
let current = 0; // the one that keys act on
let largeIndex = 0; // the last one that was enlarged
let newestRequest = 0; // for a page
let isSaving = false;

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className || "";
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(className, text, title, act) {
  const node = element("button", className, text);
  node.type = "button";
  node.title = title;
  node.addEventListener("click", act);
  return node;
}

function draw(image) {
  const card = element("figure", "photo");
  card.tabIndex = 0;
  const picture = element("img");
  picture.src = "image/" + image.row + "-" + image.id;
  picture.alt = image.name;
  picture.loading = "lazy";
  const open = button("open", "", "enlarge", enlarge);
  open.tabIndex = -1;
  open.append(picture);
  const caption = element("figcaption");
  const heading = element("span");
  heading.append(element("b", "", image.label), " · " + image.split);
  caption.append(heading, ...image.notes.map((note) => element("span", "", note)));
  if (image.decision) caption.append(element("b", "", image.decision));
  const name = element("span", "name soft", image.name.split("/").pop());
  name.title = image.name + "\n" + image.id;
  image.choiceText = element("span", "choice");
  caption.append(name, image.choiceText);
  image.keep = button("keep", "Keep", "K", () => choose(image, { action: "keep" }));
  image.reject = button("reject", "Reject", "X", () => choose(image, { action: "reject" }));
  const acts = element("div", "acts");
  acts.append(image.keep, image.reject);
  if (classes.length === 2) image.suggested = 1 - image.class;
  if (image.suggested !== null) {
    const choice = { action: "label", label: image.suggested };
    image.suggest = button("change", "Change to " + classes[image.suggested], "S", () => choose(image, choice));
    acts.append(image.suggest);
  }
  if (classes.length > 2) acts.append(drawClasses(image, card));
  card.append(open, caption);
  if (!image.is_rejected) card.append(acts);
  card.addEventListener("focusin", () => (current = images.indexOf(image)));
  image.card = card;
  mark(image);
  return card;
}

// The list is filled when it is needed: there may be thousands of classes.
function drawClasses(image, card) {
  image.change = element("select", "change");
  image.change.setAttribute("aria-label", "another class");
  image.change.append(new Option("another class …", ""));
  for (const event of ["focus", "pointerdown"]) image.change.addEventListener(event, () => fillClasses(image));
  image.change.addEventListener("change", () => {
    choose(image, image.change.value === "" ? null : { action: "label", label: +image.change.value });
    card.focus();
  });
  return image.change;
}

function fillClasses(image) {
  if (image.change.length > 1) return;
  const others = classes.map((label, number) => new Option(label, number));
  others.splice(image.class, 1);
  image.change.append(...others);
}

function areEqual(a, b) {
  return Boolean(a && b) && a.action === b.action && a.label === b.label;
}

// A second click on the same choice takes it back.
function choose(image, choice) {
  if (image.is_rejected) return; // its line is to be deleted first
  if (!choice || areEqual(choice, choices.get(image.id))) choices.delete(image.id);
  else choices.set(image.id, choice);
  mark(image);
  summarise();
}

function mark(image) {
  const choice = choices.get(image.id) || {};
  image.card.className = "photo " + (choice.action || "");
  image.keep.setAttribute("aria-pressed", choice.action === "keep");
  image.reject.setAttribute("aria-pressed", choice.action === "reject");
  if (image.suggest) image.suggest.setAttribute("aria-pressed", choice.label === image.suggested);
  if (image.change) {
    if (choice.action === "label") fillClasses(image);
    image.change.value = choice.action === "label" ? choice.label : "";
  }
  const texts = { reject: "rejected", keep: "kept", label: "→ " + classes[choice.label] };
  image.choiceText.textContent = texts[choice.action] || "";
  if (get("large").open) enlarge();
}

function summarise(note) {
  const count = (action) => [...choices.values()].filter((choice) => choice.action === action).length;
  const parts = [["reject", "to reject"], ["label", "to relabel"], ["keep", "to keep"]];
  const texts = parts.filter(([action]) => count(action)).map(([action, text]) => count(action) + " " + text);
  say([note, texts.join(", ")].filter(Boolean).join(" ") || "Nothing chosen yet.");
  get("save").disabled = get("clear").disabled = isSaving || !choices.size;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer: start `pipeline review` again. Your choices are still here.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function say(text, isBad) {
  get("summary").textContent = text;
  get("summary").className = isBad ? "bad" : "";
}

async function load(to, isFirst) {
  const number = ++newestRequest;
  const query = new URLSearchParams({ page: to });
  for (const filter of filters) query.set(filter.id, filter.type === "checkbox" ? +filter.checked : filter.value);
  let answer;
  try {
    answer = await ask("images?" + query);
  } catch (error) {
    return say(error.message, true);
  }
  if (number !== newestRequest) return; // a newer filter is already on its way
  get("large").close(); // its image may not be on the new page
  page = answer.page;
  images = answer.images;
  current = largeIndex = 0;
  get("cards").replaceChildren(...images.map(draw));
  if (!images.length) get("cards").append(element("p", "soft", "Nothing here is left to look at."));
  const first = page * answer.size + 1;
  get("page").textContent = images.length ? `${first} to ${first + images.length - 1} of ${answer.total}` : "";
  get("before").disabled = page === 0;
  get("after").disabled = first + images.length > answer.total;
  if (images.length) images[0].card.focus({ preventScroll: isFirst }); // the head stays in view
}

async function save() {
  if (isSaving || !choices.size) return;
  const snapshot = new Map(choices); // choices may change before the answer is here
  const body = { reject: [], label: [] };
  for (const [id, choice] of snapshot) {
    if (choice.action === "reject") body.reject.push(id);
    else body.label.push({ id, class: choice.action === "keep" ? null : choice.label });
  }
  isSaving = true;
  summarise("Saving …");
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await ask("decisions", { method: "POST", headers, body: JSON.stringify(body) });
    for (const [id, choice] of snapshot) if (areEqual(choice, choices.get(id))) choices.delete(id);
    await load(page);
    isSaving = false;
    summarise(answer.message);
  } catch (error) {
    isSaving = false;
    summarise();
    say(error.message, true);
  }
}

function enlarge() {
  largeIndex = current;
  const image = images[largeIndex];
  const [picture, caption] = get("large").children;
  picture.src = "image/" + image.row + "-" + image.id;
  picture.alt = image.name;
  caption.textContent = [image.label, ...image.notes, image.choiceText.textContent].filter(Boolean).join(" · ");
  if (!get("large").open) get("large").showModal();
}

function move(by) {
  current = Math.max(0, Math.min(images.length - 1, current + by));
  if (get("large").open) enlarge();
  else if (images.length) images[current].card.focus();
}

function columnsOf() {
  return getComputedStyle(get("cards")).gridTemplateColumns.split(" ").length;
}

const keys = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  ArrowUp: () => move(-columnsOf()),
  ArrowDown: () => move(columnsOf()),
  n: () => get("after").click(),
  p: () => get("before").click(),
  w: save,
};
const imageKeys = {
  x: (image) => image.reject.click(),
  k: (image) => image.keep.click(),
  s: (image) => image.suggest && image.suggest.click(),
  l: (image) => image.change && image.change.focus(),
  u: (image) => choose(image, null),
  Enter: () => (get("large").open ? get("large").close() : enlarge()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held down acts once
  const tag = event.target.tagName;
  if (tag === "SELECT" || tag === "INPUT" || (tag === "BUTTON" && event.key === "Enter")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const image = images[current];
  const number = key >= "1" && key <= "9" ? +key - 1 : -1;
  if (keys[key]) keys[key]();
  else if (image && imageKeys[key]) imageKeys[key](image);
  else if (image && number >= 0 && number < classes.length) {
    choose(image, number === image.class ? { action: "keep" } : { action: "label", label: number });
  } else return;
  event.preventDefault();
});

for (const filter of filters) filter.addEventListener("change", () => load(0));
get("before").addEventListener("click", () => load(page - 1));
get("after").addEventListener("click", () => load(page + 1));
get("save").addEventListener("click", save);
get("clear").addEventListener("click", () => {
  choices.clear();
  images.forEach(mark);
  summarise();
});
get("large").addEventListener("click", () => get("large").close());
// The browser moves the focus back to where it was when the first image was enlarged.
get("large").addEventListener("close", () => images.length && images[largeIndex].card.focus());
window.addEventListener("beforeunload", (event) => {
  if (choices.size) event.preventDefault();
});
load(0, true);
