// The one way to the server. Answers are JSON; an error is thrown as `Wrong`, with words for the person.

export class Wrong extends Error {
  constructor(status, words, hint) {
    super(words);
    this.status = status;
    this.hint = hint;
  }
}

const withQuery = (path, query) => {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) words.append(name, one);
    }
  }
  const text = words.toString();
  return `explorer/${path}${text ? `?${text}` : ""}`;
};

/** Ask for JSON. `signal` ends it early. */
export const get = (path, query = {}, signal = undefined) => send(withQuery(`api/${path}`, query), { signal });

/** Send a form. */
export const post = (path, form, query = {}, signal = undefined) =>
  send(withQuery(`api/${path}`, query), { method: "POST", body: form, signal });

/** Ask for bytes. */
export async function bytes(path, query = {}) {
  const answer = await ask(withQuery(`api/${path}`, query), {});
  return answer.arrayBuffer();
}

async function send(address, options) {
  const answer = await ask(address, options);
  return answer.json();
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Wrong(0, "The server does not answer.", "Check that it still runs, then try again.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Wrong(answer.status, body.error ?? `The server answered with ${answer.status}.`, body.hint ?? "");
}

/** Where an item's picture is. `size`: small or large. The digest makes the address change with the picture. */
export const pictureOf = (item, size = "small") =>
  withQuery("picture", { id: item.id, size, v: item.picture });

/** Where the noised picture of an item is. */
export const noisedOf = (item, noise, size = "large") =>
  withQuery("noised", { id: item.id, size, ...noise, v: item.clean ?? item.picture });
