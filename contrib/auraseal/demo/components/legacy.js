// Says hello.
document.querySelector("#legacy .stage").textContent = "hello";
