// Shows on each card what auraseal.js says of the component in it. Part of the page, not a component.
"use strict";

const WORDS = { verified: "Verified", healed: "Healed", refused: "Refused" };
const counts = { verified: 0, healed: 0, refused: 0 };

function show({ target, detail }) {
  const { state, url, reason, why } = detail;
  const card = target.closest(".card");
  card.dataset.state = state;
  card.querySelector(".pill").textContent = WORDS[state];
  const line = card.querySelector(".why");
  line.textContent = state === "verified" ? "SHA-512 as named, then run" : `${reason ? reason + ": " : ""}${why}`;
  if (state === "healed") line.textContent += "; its recovery file ran";
  const file = line.appendChild(document.createElement("span"));
  file.textContent = url ? new URL(url).pathname.split("/").pop() : "";
  if (state === "refused") card.querySelector(".stage").textContent ||= "did not run";
  document.querySelector(`.tally [data-state="${state}"] b`).textContent = ++counts[state];
}

for (const state of Object.keys(WORDS)) document.addEventListener(`auraseal:${state}`, show);
