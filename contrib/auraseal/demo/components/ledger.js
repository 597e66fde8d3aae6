// Draws a row of sums.
const sums = [3, 5, 4, 7, 6, 9, 8, 11];
const bars = sums.map((sum, at) => `<rect x="${30 + at * 33}" y="${118 - sum * 9}" width="22" height="${sum * 9}" fill="currentColor"/>`);
document.querySelector("#ledger .stage").innerHTML = `<svg viewBox="0 0 310 132">${bars.join("")}</svg>`;
