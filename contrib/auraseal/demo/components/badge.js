// Draws a seal. Nothing is wrong with this file: its tag names it in a way that nobody knows.
document.querySelector("#badge .stage").innerHTML =
  '<svg viewBox="0 0 310 132"><circle cx="155" cy="66" r="44" fill="none" stroke="currentColor" stroke-width="8"/></svg>';
