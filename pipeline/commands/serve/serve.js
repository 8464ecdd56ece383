// The page of `pipeline serve`. Names of classes are set as text, never as HTML.
"use strict";

const get = (id) => document.getElementById(id);
const NEIGHBOURS = 4; // training images beside an answer
let newest = 0; // number of the last picture: answers for earlier ones are dropped
let current = null; // the picture that is shown
let address = ""; // of what the page shows: its picture, or the heatmap

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className || "";
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(text, isBad) {
  get("status").textContent = text;
  get("status").className = isBad ? "bad" : "soft";
}

function show(blob) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  get("picture").src = address;
}

async function request(path, method, headers, body) {
  const token = new FormData(get("token")).get("token");
  if (token) headers.Authorization = "Bearer " + token;
  let response;
  try {
    response = await fetch(path, { method, headers, body });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    get("token").hidden = false;
    get("token").elements.token.focus();
    throw new Error("The server needs its token: enter it, and choose the picture again.");
  }
  throw new Error((await response.json().catch(() => ({}))).error || "The server fails.");
}

function post(path, picture) {
  const type = picture.type.startsWith("image/") ? picture.type : "application/octet-stream";
  return request(path, "POST", { "Content-Type": type }, picture);
}

// Awaits what belongs to a picture, and shows it unless another picture was chosen since.
async function ask(path, picture, use) {
  const number = newest;
  try {
    const response = await post(path, picture);
    const value = await (path === "gradcam" ? response.blob() : response.json());
    if (number === newest) use(value);
  } catch (error) {
    if (number === newest) say(error.message, true);
  }
}

function bar({ label, probability }) {
  const item = element("li");
  const line = element("div", "line");
  line.append(element("span", "", label), element("span", "number", (100 * probability).toFixed(1) + " %"));
  const filled = element("div", "bar");
  filled.style.width = 100 * probability + "%";
  const track = element("div", "track");
  track.append(filled);
  item.append(line, track);
  return item;
}

function link(text, url) {
  if (!url) return document.createTextNode(text);
  const anchor = element("a", "", text);
  anchor.href = url;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
  return anchor;
}

// Who made a training image, and its licence; nothing if neither is known.
function credit({ title, owner, licence, licence_url, link: url }) {
  const line = element("p", "soft");
  if (owner || url) line.append(link(title || "Untitled", url), " by " + (owner || "an unknown owner"));
  if (licence) line.append(owner || url ? ", " : "", link(licence, licence_url));
  return line;
}

function neighbour(image) {
  const item = element("li");
  const picture = element("img");
  picture.alt = "a training image: " + image.label;
  const line = element("p", "", image.label + " ");
  line.append(element("span", "soft", image.similarity.toFixed(2)));
  item.append(picture, line, credit(image));
  draw(picture, image.id);
  return item;
}

// Fetched, not linked: the server may need its token.
async function draw(picture, id) {
  try {
    const response = await request("training-image?id=" + encodeURIComponent(id), "GET", {});
    const url = URL.createObjectURL(await response.blob());
    picture.onload = () => URL.revokeObjectURL(url);
    picture.src = url;
  } catch {
    picture.alt += " (its picture cannot be shown)";
  }
}

function showNeighbours(images) {
  get("neighbours").replaceChildren(...images.map(neighbour));
  get("similar").hidden = !images.length;
}

function showAnswer({ predictions: [answer] }) {
  get("model").textContent = answer.model;
  get("answer").textContent = answer.answer === null ? "" : answer.answer[0].toUpperCase() + answer.answer.slice(1);
  get("bars").replaceChildren(...answer.top.map(bar));
  get("explain").hidden = answer.problem !== null;
  showWrong(answer.problem === null);
  showNeighbours(answer.neighbours);
  if (answer.problem === null) say("");
  else say("This cannot be read as a picture: " + answer.problem.replaceAll("_", " ") + ".", true);
}

// The form is there only if the server keeps feedback.
function showWrong(isShown) {
  const form = get("wrong");
  if (form === null) return;
  form.hidden = !isShown;
  form.reset();
}

function classify(picture) {
  newest += 1;
  current = picture;
  show(picture);
  get("answer").textContent = "";
  get("bars").replaceChildren();
  get("explain").hidden = true;
  showWrong(false);
  showNeighbours([]);
  get("result").hidden = false;
  say("Looking …");
  ask("predict?neighbours=" + NEIGHBOURS, picture, showAnswer);
}

for (const id of ["file", "camera"]) {
  get(id).addEventListener("change", (event) => {
    if (event.target.files.length) classify(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
get("explain").addEventListener("click", () => {
  get("explain").hidden = true;
  ask("gradcam", current, show);
});
if (get("wrong") !== null) {
  get("wrong").addEventListener("submit", (event) => {
    event.preventDefault();
    const label = new FormData(event.target).get("label");
    ask("feedback?label=" + encodeURIComponent(label), current, () => {
      showWrong(false);
      say("Thank you: the picture is kept for review as " + label + ".");
    });
  });
}
get("token").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", (event) => {
  const picture = [...event.clipboardData.files][0];
  if (picture) classify(picture);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // otherwise the browser opens the file
    get("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
  });
}
