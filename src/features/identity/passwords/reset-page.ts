/** The page behind a link that sets a new password: plain HTML, which needs no script. */
export const RESET_PAGE_PATH = "/password-reset";
/**
 * The page's address in its own links: relative, since it may be served below /api or a proxy's
 * path.
 */
const RELATIVE_PATH = RESET_PAGE_PATH.slice(1);

export const RESET_STYLE = `body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 26rem; padding: 3rem 1rem; }
label, input, button { display: block; font: inherit; width: 100%; box-sizing: border-box; }
input { margin: 0.25rem 0 1rem; padding: 0.5rem; }
button { padding: 0.6rem; }
:root { color-scheme: light dark; }
`;

/** The form, with what was wrong with the last attempt. */
export function resetForm(token: string, problem: string | null): string {
  return page(
    `${problem === null ? "" : `<p role="alert"><strong>${Bun.escapeHTML(problem)}</strong></p>`}
<form method="post" action="${RELATIVE_PATH}">
<input type="hidden" name="token" value="${Bun.escapeHTML(token)}">
<label for="password">New password, at least 8 characters</label>
<input id="password" name="password" type="password" minlength="8" maxlength="128" autocomplete="new-password" required autofocus>
<button>Set the password</button>
</form>
<p>This ends all sessions of the account.</p>`,
  );
}

export function resetDone(): string {
  return page("<p>The password is set, and all sessions are ended. Sign in with the new one.</p>");
}

function page(content: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>New password - Footfall</title>
<link rel="stylesheet" href="${RELATIVE_PATH}/style.css">
<h1>New password</h1>
${content}
</html>
`;
}
