/** Says that it is up, and waits; TERM ends it. The JVM catches USR2 for itself. */
public class Catches {
    public static void main(String[] words) throws Exception {
        System.out.print("up " + ProcessHandle.current().pid() + "\n");
        System.out.flush();
        Thread.sleep(Long.MAX_VALUE);
    }
}
