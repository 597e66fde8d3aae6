// Draws a heartbeat.
const beat = [0, 0, -4, 0, 0, 7, -46, 24, 0, 0, -9, -7, 0, 0, 0, 0];
const points = Array.from({ length: 64 }, (_, at) => `${at * 5},${70 + beat[at % beat.length]}`);
document.querySelector("#pulse .stage").innerHTML =
  '<svg viewBox="0 0 315 132"><polyline fill="none" stroke="currentColor" stroke-width="2.5" ' +
  `stroke-linejoin="round" points="${points.join(" ")}"/></svg>`;
