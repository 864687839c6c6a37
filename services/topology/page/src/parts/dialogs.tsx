// Dialogs: signing in, and the question before anything is changed.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Failure } from "../shell/answers";
import { isKnown, isSigningIn, known, may, me, problem, signIn, write } from "../shell/session";
import { Failed } from "./states";

export function Dialog({ title, children, close }: { title: string; children: ComponentChildren; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOver = useRef(false);
  // Before it is taken out, which an ordinary effect would be too late for, it is closed: the browser gives the
  // focus back to where it was.
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => {
      isOver.current = true;
      shown?.close();
    };
  }, []);
  // Escape closes as a button does. The event `close` comes later, also of one that was taken out: it would end what was
  // opened meanwhile.
  const cancel = (event: Event) => {
    event.preventDefault();
    close();
  };
  const closed = () => { if (!isOver.current) close(); };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="dialog-title" onCancel={cancel} onClose={closed}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

export function SignIn() {
  const [token, setToken] = useState("");
  const [isBusy, setBusy] = useState(false);
  if (!isSigningIn.value) return null;
  const send = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    if (await signIn(token)) setToken("");
    setBusy(false);
  };
  const back = encodeURIComponent(location.pathname + location.search);
  return (
    <Dialog title="Sign in" close={() => { isSigningIn.value = false; }}>
      <p>Everybody who reaches this page sees it. To change something, say who you are.</p>
      {me.value?.signIn?.issuer && <p><a class="button" href={`/signin?back=${back}`} data-leaves>Sign in at your organization</a></p>}
      <form onSubmit={send}>
        <label>Token <input id="token" type="password" value={token} autocomplete="off" required
          onInput={(event) => setToken(event.currentTarget.value)} /></label>
        <p class="soft"><code>make up</code> prints one for this machine; <code>python -m services.gateway.door NAME</code> makes one.</p>
        {problem.value !== null && <Failed failure={problem.value} isPart />}
        <p class="buttons"><button type="submit" disabled={isBusy}>Sign in</button>
          <button type="button" onClick={() => { isSigningIn.value = false; }}>Close</button></p>
      </form>
    </Dialog>
  );
}

interface ActionProps {
  // What it is, as a verb: the button's text and the dialog's.
  verb: string;
  // What it is done to, where several buttons have the same verb.
  about?: string | undefined;
  name: string;
  question: object;
  // What will happen, in full.
  children: ComponentChildren;
  done?: (told: unknown) => void;
}

// An answer to a wish to cancel may be that there was nothing to be stopped.
const NOTHING = new Failure({
  code: "", summary: "Nothing was stopped", cause: "no worker has begun it yet, or it has ended meanwhile",
  remedy: "Cancel it when it has begun.",
}, 409);

// A button for something that changes something: says what it will do, and does it when that is confirmed.
export function Action({ verb, about, name, question, children, done }: ActionProps) {
  const [isOpen, setOpen] = useState(false);
  const isRefused = isKnown() && !may(name);
  const ask = async () => {
    await known();
    if (!isKnown()) isSigningIn.value = true;
    else if (may(name)) setOpen(true);
  };
  // What is done may take the button away: who goes by keys goes on in the view then, not at the page's begin.
  useEffect(() => () => {
    if (document.activeElement === document.body) document.getElementById("view")?.focus({ preventScroll: true });
  }, []);
  return (
    <>
      <button type="button" onClick={ask} disabled={isRefused} aria-label={about && `${verb} ${about}`}
        title={isRefused ? `${me.value?.identity} may not ask ${name}` : undefined}>{verb}</button>
      {isOpen && <Confirm verb={verb} about={about} name={name} question={question} done={done} close={() => setOpen(false)}>{children}</Confirm>}
    </>
  );
}

function Confirm({ verb, about, name, question, children, done, close }: Omit<ActionProps, "done"> & {
  done: ((told: unknown) => void) | undefined; close: () => void;
}) {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const go = async () => {
    setBusy(true);
    try {
      const told = await write<{ cancelling?: boolean }>(name, question);
      if (told.cancelling === false) throw NOTHING;
      close();
      done?.(told);
    } catch (error) {
      setFailure(error instanceof Failure ? error : null);
      setBusy(false);
    }
  };
  return (
    <Dialog title={about ? `${verb} ${about}` : verb} close={close}>
      {children}
      <p class="soft">As {me.value?.identity}; it is kept in the audit.</p>
      {failure !== null && <Failed failure={failure} isPart />}
      <p class="buttons"><button type="button" class="primary" disabled={isBusy} onClick={go}>{verb}</button>
        <button type="button" onClick={close} autofocus>Leave it</button></p>
    </Dialog>
  );
}
