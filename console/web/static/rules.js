// A file dropped anywhere on the form is explained at once, and only its first bytes are sent: rules look at headers.
const MOST_BYTES = 1_000_000;

for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");

  const take = (file) => {
    const held = new DataTransfer();
    held.items.add(new File([file.slice(0, MOST_BYTES)], "header.dcm"));
    input.files = held.files;
    form.requestSubmit();
  };

  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file && file.size > MOST_BYTES) take(file);
  });
}
