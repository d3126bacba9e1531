import java.io.FileInputStream;
import java.util.HashMap;
import java.util.Properties;
import org.eclipse.dataspacetck.core.system.ConsoleMonitor;
import org.eclipse.dataspacetck.dsp.system.DspSystemLauncher;
import org.eclipse.dataspacetck.runtime.TckRuntime;

/** Runs the conformance kit with a properties file and prints how many tests passed; exits with 0 if none failed. */
public class Suite {
    public static void main(String[] args) throws Exception {
        var properties = new Properties();
        try (var file = new FileInputStream(args[0])) {
            properties.load(file);
        }
        var map = new HashMap<String, String>();
        properties.forEach((name, value) -> map.put(name.toString(), value.toString()));
        var wanted = args.length > 1 ? args[1] : "";
        var result = TckRuntime.Builder.newInstance()
                .properties(map)
                .addPackage("org.eclipse.dataspacetck.dsp.verification")
                .launcher(DspSystemLauncher.class)
                .displayNameMatching(name -> !name.contains(":0") || name.startsWith(wanted))
                .monitor(new ConsoleMonitor(Boolean.parseBoolean(map.get("dataspacetck.debug")), false))
                .build()
                .execute();
        result.getFailures().forEach(failure -> System.out.println(
                "FAILED: " + failure.getTestIdentifier().getDisplayName() + "\n  " + failure.getException()));
        System.out.println(result.getTestsSucceededCount() + " passed, " + result.getTestsFailedCount() + " failed");
        System.exit(result.getTestsFailedCount() == 0 ? 0 : 1);
    }
}
